//! The pair of storage keys: made in the token, found, and known again by what it does.

use std::collections::BTreeMap;

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
};

use super::{
    Authenticated, Mac, StorageError, StorageNumber,
    kept::{self, Pair},
};
use crate::{
    HsmError, Kcv, KeyName, KeyRole, check_value,
    error::CallResult,
    inspect::{require_free, require_role},
    limit,
    session::Session,
    template::Lives,
    worker::{Ephemeral, Worker},
};

/// What is under the MAC by which a pair is known. No record that anybody would take for one.
const PROOF: &[u8] = b"key distribution host: a pair of storage keys is the same";

/// What a pair made, by which it is known wherever it should be. The key that was wrapped protects nothing.
pub(crate) struct Proof {
    number: StorageNumber,
    names: [KeyName; 2],
    wrapped: Vec<u8>,
    kcv: Kcv,
    mac: Mac,
}

/// Makes a pair in the token.
///
/// # Errors
/// One of the names is taken; the module made a key that is weaker than its role, or a pair that does not do its
/// work. Nothing is kept then.
pub(crate) fn make(worker: &Worker, number: StorageNumber) -> Result<(), HsmError> {
    let names = [number.key_name()?, number.mac_name()?];
    for name in &names {
        require_free(&worker.session, name)?;
    }
    let [key_name, mac_name] = &names;
    let key = generate(worker, KeyRole::Storage, key_name)?;
    let mac = generate(worker, KeyRole::StorageMac, mac_name)?;
    let pair = Pair {
        number,
        key: key.handle(),
        mac: mac.handle(),
    };
    let proof = Proof::of(&worker.session, pair)?;
    proof.require_key(&worker.session, pair)?;
    proof.require_mac(&worker.session, pair)?;
    key.keep();
    mac.keep();
    Ok(())
}

fn generate<'s>(
    worker: &'s Worker,
    role: KeyRole,
    name: &KeyName,
) -> Result<Ephemeral<'s>, HsmError> {
    let operation = "make a storage key";
    let (session, template) = (&worker.session, role.template());
    let mut attributes = template.attributes(Lives::InToken);
    let len = StorageNumber::KIND.key_len().try_into().during(operation)?;
    attributes.extend([
        Attribute::ValueLen(len),
        Attribute::Label(name.label().into()),
        Attribute::Id(name.id().to_vec()),
    ]);
    let limit = limit::of_secret(template, StorageNumber::KIND, false);
    let key = limit::make(session, &limit, |limit| {
        let attributes = [&attributes[..], limit.as_slice()].concat();
        session
            .generate_key(&Mechanism::AesKeyGen, &attributes)
            .with_key(operation, name.label())
    })?;
    let key = Ephemeral::new(session, key);
    require_role(session, key.handle(), role, name, &worker.place)?;
    limit::require(session, key.handle(), &limit, (name.label(), template))?;
    Ok(key)
}

/// The pairs of which the token holds a key, with whether it holds both.
pub(crate) fn numbers(session: &Session) -> Result<BTreeMap<StorageNumber, bool>, HsmError> {
    let operation = "list the storage keys";
    let template = [
        Attribute::Token(true),
        Attribute::Class(ObjectClass::SECRET_KEY),
    ];
    let mut halves = BTreeMap::<StorageNumber, [bool; 2]>::new();
    for key in session.find_objects(&template).during(operation)? {
        let types = [AttributeType::Label, AttributeType::Id];
        let attributes = session.get_attributes(key, &types).during(operation)?;
        let Some((number, half)) = half(&attributes) else {
            continue;
        };
        halves.entry(number).or_default()[half] = true;
    }
    let pairs = halves.into_iter();
    Ok(pairs
        .map(|(number, halves)| (number, halves == [true; 2]))
        .collect())
}

/// Which key of which pair this is, if it is one.
fn half(attributes: &[Attribute]) -> Option<(StorageNumber, usize)> {
    let label = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Label(label) => std::str::from_utf8(label).ok(),
        _ => None,
    })?;
    let prefixes = [KeyRole::Storage, KeyRole::StorageMac].map(KeyRole::label_prefix);
    let mut halves = prefixes.into_iter().enumerate();
    let (half, number) =
        halves.find_map(|(half, prefix)| Some((half, label.strip_prefix(prefix)?)))?;
    let number = StorageNumber::new(number.parse().ok()?).ok()?;
    // `ksk.01` is none of these, nor one that is found by another id.
    let name = KeyName::new(label).ok()?;
    let names = [number.key_name().ok()?, number.mac_name().ok()?];
    (names[half] == name && attributes.contains(&Attribute::Id(name.id().to_vec())))
        .then_some((number, half))
}

impl Proof {
    /// Has a pair make one.
    pub(super) fn of(session: &Session, pair: Pair) -> Result<Self, HsmError> {
        let throw_away = kept::generate(session, StorageNumber::KIND)?;
        Ok(Self {
            number: pair.number,
            names: [pair.number.key_name()?, pair.number.mac_name()?],
            kcv: check_value::of(&throw_away, session, StorageNumber::KIND, Kcv::LEN)?,
            wrapped: kept::wrap(session, pair.key, throw_away.handle(), StorageNumber::KIND)?,
            mac: kept::sign(session, pair.mac, PROOF)?,
        })
    }

    /// The pair's keys, with what each is for.
    pub(crate) fn names(&self) -> [(KeyRole, KeyName); 2] {
        let [key, mac] = self.names.clone();
        [(KeyRole::Storage, key), (KeyRole::StorageMac, mac)]
    }

    /// Which pair.
    pub(crate) const fn number(&self) -> StorageNumber {
        self.number
    }

    /// Whether a key that was found is the one of this role which made its part of it.
    pub(crate) fn is_by(
        &self,
        session: &Session,
        role: KeyRole,
        found: ObjectHandle,
    ) -> Result<bool, HsmError> {
        let pair = Pair {
            number: self.number,
            key: found,
            mac: found,
        };
        let required = if role == KeyRole::Storage {
            self.require_key(session, pair)
        } else {
            self.require_mac(session, pair)
        };
        match required {
            Ok(()) => Ok(true),
            Err(HsmError::Storage(_) | HsmError::KcvMismatch { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn require_key(&self, session: &Session, pair: Pair) -> Result<(), HsmError> {
        let template = (check_value::template(StorageNumber::KIND), &[][..]);
        let opened = kept::unwrap_as(session, pair, StorageNumber::KIND, &self.wrapped, template)?;
        let found = check_value::of(&opened, session, StorageNumber::KIND, Kcv::LEN)?;
        if found == self.kcv {
            return Ok(());
        }
        Err(StorageError::DoesNotOpen(self.number).into())
    }

    fn require_mac(&self, session: &Session, pair: Pair) -> Result<(), HsmError> {
        let record = Authenticated {
            number: self.number,
            bytes: PROOF.to_vec(),
            mac: self.mac,
        };
        kept::verify(session, pair.mac, &record)
    }
}
