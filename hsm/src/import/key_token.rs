//! Kn in the key block of a TR-34 token, in which the host is the receiving side. Opened as on a terminal
//! ([`crate::open`]), and kept as a master key.

use tr34::KeyBlockFrame;

use super::{ImportError, KeyImport, UpstreamToken, key_wrap::refused_as, upstream::require_pair};
use crate::{
    ExpectedKeyBlock, HsmError, KeyName, SecretKey,
    inspect::key_type,
    master_key,
    open::{Encrypted, EncryptedKe, Opening, bring, unwrap_whole_ke, verify},
    template::{LOADING_KEY, Lives, Template},
    worker::Worker,
};

pub(super) fn import(
    worker: &mut Worker,
    opening: &Opening,
    arrived: &UpstreamToken,
    import: &KeyImport,
    name: &KeyName,
    derives: bool,
) -> Result<SecretKey, HsmError> {
    let (pair, token) = (arrived.pair(), arrived.token());
    let (enveloped, kdh) = (token.enveloped(), token.signed_by().signer());
    let means = opening.means(enveloped.cipher())?;
    let private = require_pair(worker, pair, arrived.own().public_key())?;
    let session = &worker.session;
    let does_not_open = || ImportError::KeyToken {
        pair: pair.label().to_owned(),
        kind: import.kind,
    };
    let encrypted = EncryptedKe::of(enveloped);
    let ke = unwrap_whole_ke(session, private, &encrypted, &LOADING_KEY);
    let ke = refused_as(ke, does_not_open)?;
    let block = Encrypted {
        encryption: *enveloped.encryption(),
        ciphertext: enveloped.ciphertext(),
    };
    let expected = ExpectedKeyBlock {
        kind: import.kind,
        frame: KeyBlockFrame::new(
            arrived.profile(),
            kdh,
            token.header(),
            import.kind.key_len(),
        ),
    };
    let way = match verify(session, means, ke.handle(), &block, &expected) {
        impossible @ Err(HsmError::Unsupported { .. }) => impossible?,
        outcome => refused_as(outcome, does_not_open)?,
    };
    let way = way.ok_or_else(does_not_open)?;
    let make = |template: &Template, lives: Lives, more: &[_]| {
        let mut attributes = template.attributes_with_class(lives);
        attributes.extend_from_slice(more);
        let key_type = key_type(import.kind);
        bring(
            session,
            way,
            ke.handle(),
            &block,
            &expected,
            key_type,
            attributes,
        )
    };
    master_key::enter(worker, name, import.kind, &import.kcv, derives, make)
}
