//! Keys that lie outside of the HSM under its storage keys.

mod kept;
mod pairs;
mod refused;
mod several;

use hsm::{
    Authenticated, HsmError, Kcv, KeyName, KeyPairKind, KeyRole, KnSource, MadeKey, NewKey,
    SealRequest, SealedKeyBlock, SigningKey, StorageNumber, StoredKn, Token, TokenGroup,
};
use pki::PublicKey;
use rsa::PrivateKey;
use tr34::{KeyKind, OaepHash};

use crate::{
    common::{block_on, new_token},
    sealing::{frame, request},
    software,
};

pub(crate) const ONE: StorageNumber = StorageNumber::FIRST;

/// What the tests write beside a key: all that it has to be bound to.
fn record(index: usize, kcv: &Kcv, wrapped: &[u8]) -> Vec<u8> {
    format!("{index} {kcv} {}", hex::encode(wrapped)).into_bytes()
}

/// A stored key, and what is written beside it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    kcv: Kcv,
    pub(crate) kn: StoredKn,
    pub(crate) record: Authenticated,
}

/// A token with a pair of storage keys and a KDH key.
pub(crate) struct Lab {
    pub(crate) token: Token,
    pub(crate) group: TokenGroup,
    signer: SigningKey,
    recipient: PrivateKey,
    public: PublicKey,
}

impl Lab {
    fn new() -> Self {
        let token = new_token("kdh");
        token.make_storage_keys(ONE).unwrap();
        Self::of(token)
    }

    pub(crate) fn of(token: Token) -> Self {
        let name = KeyName::new("kdh-signing").unwrap();
        let (role, pair) = (KeyRole::KdhSigning, KeyPairKind::Rsa { bits: 2048 });
        token.generate_key_pair(role, &name, pair).unwrap();
        let group = TokenGroup::from(token.clone());
        let signer = group.signing_key(role, &name).unwrap();
        let recipient = software::recipient();
        Self {
            token,
            group,
            signer,
            public: software::public_half(&recipient),
            recipient,
        }
    }

    pub(crate) fn make(&self, number: StorageNumber, kinds: &[KeyKind]) -> Vec<Row> {
        let keys = kinds.iter().map(|kind| new_key(*kind)).collect();
        let made = self.try_make(number, keys).unwrap();
        let rows = kinds.iter().zip(made).enumerate();
        rows.map(|(index, (kind, made))| row(number, index, *kind, made))
            .collect()
    }

    fn try_make(&self, number: StorageNumber, keys: Vec<NewKey>) -> Result<Vec<MadeKey>, HsmError> {
        block_on(self.group.make_keys(number, keys, record))
    }

    /// Brings rows under another pair.
    pub(crate) fn rewrap(&self, to: StorageNumber, rows: &[Row]) -> Vec<Row> {
        let kcvs: Vec<Kcv> = rows.iter().map(|row| row.kcv.clone()).collect();
        let bind = move |index: usize, wrapped: Option<&[u8]>| {
            record(index, &kcvs[index], wrapped.unwrap())
        };
        let records = rows
            .iter()
            .map(|row| (row.record.clone(), Some(row.kn.clone())));
        let rewrapped = block_on(self.group.rewrap(to, records.collect(), bind)).unwrap();
        let rows = rows.iter().zip(rewrapped).enumerate();
        rows.map(|(index, (old, new))| {
            let made = MadeKey {
                kcv: old.kcv.clone(),
                wrapped: new.wrapped.unwrap(),
                mac: new.mac,
            };
            row(to, index, old.kn.kind, made)
        })
        .collect()
    }

    /// Kn as a terminal gets it.
    pub(crate) fn deliver(&self, row: &Row) -> Result<Vec<u8>, HsmError> {
        self.deliver_of(&KnSource::Stored(row.kn.clone()), Some(&row.record))
    }

    /// Another Kn as a terminal gets it.
    pub(crate) fn deliver_of(
        &self,
        kn: &KnSource,
        record: Option<&Authenticated>,
    ) -> Result<Vec<u8>, HsmError> {
        let frame = frame(kn.kind());
        let request = self.request(kn.kind(), &frame);
        let sealing =
            self.group
                .seal_and_sign::<_, HsmError>(kn, record, &request, &self.signer, |sealed| {
                    Ok(Draft(sealed))
                });
        let sealed = block_on(sealing)?.draft.0;
        let (_, block) = software::open(&self.recipient, &sealed);
        let kn = block.strip_prefix(frame.prefix()).unwrap();
        Ok(kn.strip_suffix(frame.suffix()).unwrap().to_vec())
    }

    fn request<'a>(&'a self, kind: KeyKind, frame: &'a tr34::KeyBlockFrame) -> SealRequest<'a> {
        request(kind, frame, &self.public, OaepHash::Sha1)
    }
}

struct Draft(SealedKeyBlock);

impl AsRef<[u8]> for Draft {
    fn as_ref(&self) -> &[u8] {
        &self.0.ciphertext
    }
}

fn new_key(kind: KeyKind) -> NewKey {
    NewKey {
        kind,
        kcv_len: Kcv::LEN,
    }
}

fn row(number: StorageNumber, index: usize, kind: KeyKind, made: MadeKey) -> Row {
    let record = Authenticated {
        number,
        bytes: record(index, &made.kcv, &made.wrapped),
        mac: made.mac,
    };
    let kn = StoredKn {
        number,
        kind,
        wrapped: made.wrapped,
    };
    Row {
        kcv: made.kcv,
        kn,
        record,
    }
}
