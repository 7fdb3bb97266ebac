//! Key tokens, which the HSM seals and signs.

use std::{sync::Arc, time::Duration};

use hsm::HsmError;
use pki::PublicKey;
use tr34::{Freshness, IssuerAndSerial, KeyBlockFrame, KeyToken, Profile, SigningTime, TokenDraft};

use super::{HostKeys, ours, too_late};
use crate::{
    error::HostError,
    store::{DeviceKey, Sealed, SealedRow as _, StoreError},
};

/// A key token, and how long the HSM took over it.
#[derive(Debug)]
pub(crate) struct MadeToken {
    pub(crate) kt_kdh: Vec<u8>,
    pub(crate) queued: Duration,
    pub(crate) sealing: Duration,
    pub(crate) signing: Duration,
}

/// A key token without its signature, as the bytes that are to be signed.
struct Draft(TokenDraft);

impl AsRef<[u8]> for Draft {
    fn as_ref(&self) -> &[u8] {
        self.0.to_be_signed()
    }
}

/// What goes into a key token.
#[derive(Clone, Debug)]
pub(crate) struct TokenOrder {
    pub(crate) profile: Profile,
    /// Who signs.
    pub(crate) kdh: IssuerAndSerial,
    pub(crate) key: Sealed<DeviceKey>,
    pub(crate) freshness: Freshness,
    pub(crate) now: SigningTime,
    pub(crate) recipient: PublicKey,
    pub(crate) recipient_id: IssuerAndSerial,
    pub(crate) crl: Vec<u8>,
}

impl HostKeys {
    /// Makes a key token: verifies the key's row, seals Kn and signs, all in the HSM.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: the row is not as the HSM has sealed it, or its key is not.
    pub(crate) async fn make_token(&self, order: TokenOrder) -> Result<MadeToken, HostError> {
        let row = order.key.unproven();
        let not_sealed = || StoreError::NotSealed(row.title());
        let kn = self.source(&order.key)?;
        let record = self.record_of(&order.key)?;
        let kdh = self.kdh(&order.kdh)?;
        let key_len = row.kind.key_len();
        let frame = KeyBlockFrame::new(order.profile, &kdh.id, &row.header, key_len);
        let recipient = order.recipient.clone();
        let request = hsm::SealRequest {
            frame: &frame,
            recipient: &recipient,
            cipher: self.cipher(row.kind),
            oaep: self.oaep,
        };
        let (order, oaep) = (Arc::new(order.clone()), self.oaep);
        let draft = move |sealed: hsm::SealedKeyBlock| {
            let enveloped = tr34::EnvelopedKeyBlock::new(
                order.recipient_id.clone(),
                oaep,
                sealed.encrypted_key,
                sealed.encryption,
                sealed.ciphertext,
            )
            .map_err(ours)?;
            let draft = KeyToken::draft(
                order.profile,
                &enveloped,
                &order.key.unproven().header,
                &order.freshness,
                order.now,
                &order.kdh,
                &order.crl,
            );
            draft.map(Draft).map_err(ours)
        };
        let tokens = &self.kdh_tokens;
        let signed =
            tokens.seal_and_sign::<_, HostError>(&kn, Some(&record), &request, &kdh.key, draft);
        let signed = tokio::time::timeout(tokens.deadline(), signed).await;
        let signed = signed.map_err(|_| too_late("seal and sign"))?;
        let signed = signed.map_err(|error| match error {
            HostError::Hsm(HsmError::Storage(_)) => not_sealed().into(),
            other => other,
        })?;
        let Draft(draft) = signed.draft;
        Ok(MadeToken {
            kt_kdh: draft.into_token(&signed.signature).map_err(ours)?,
            queued: signed.queued,
            sealing: signed.sealing,
            signing: signed.signing,
        })
    }
}
