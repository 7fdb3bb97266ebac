//! Receipts: what the terminal says about a delivery, or about a token that it obeyed, signed in its
//! token.

use hsm::{HsmError, Kcv, KcvMethod, SigningKey};
use kdh_proto::{
    BINDING_CONTEXT, RECEIPT_CONTEXT,
    v1::{
        self, BindingStatement, KeyCheckValue, Receipt, ReceiptStatement, key_check_value::Method,
    },
};
use pki::Signer as _;
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::{
    DeviceSerial, Kdh, SlotName, TokenDigest,
    record::{DestroyedKey, HexBytes, PendingAcknowledgement, PendingReport},
};

/// A delivery, as the host described it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The slot that it is for.
    pub slot: SlotName,
    /// What the host calls it.
    pub id: String,
    /// Version of the key.
    pub key_version: u32,
    /// Header of the key.
    pub header: tr34::Kbh,
    /// The KDH that it comes from.
    pub kdh: tr34::IssuerAndSerial,
}

/// Signs what the token made of a delivery: `kcv`, right or wrong, of the key in `kt_kdh`.
///
/// # Errors
/// The key did not sign.
pub fn sign_receipt(
    key: &SigningKey,
    serial: &DeviceSerial,
    delivery: &Delivery,
    kcv: &Kcv,
    kt_kdh: &[u8],
) -> Result<PendingReport, HsmError> {
    let statement = ReceiptStatement {
        context: RECEIPT_CONTEXT.to_owned(),
        serial_number: serial.as_str().to_owned(),
        delivery_id: delivery.id.clone(),
        slot: delivery.slot.as_str().to_owned(),
        key_version: delivery.key_version,
        header: delivery.header.to_string(),
        kcv: Some(kcv_to_wire(kcv)),
        kt_kdh_sha256: Sha256::digest(kt_kdh).to_vec(),
    }
    .encode_to_vec();
    let signature = key.sign(&statement)?;
    Ok(PendingReport {
        delivery_id: delivery.id.clone(),
        statement: HexBytes(statement),
        signature: HexBytes(signature),
    })
}

/// What an obeyed token has done.
#[derive(Clone, Debug)]
pub(crate) struct Obeyed<'a> {
    /// The token.
    pub(crate) token: TokenDigest,
    /// The KDH before.
    pub(crate) previous: &'a Kdh,
    /// The KDH now; `None` for a terminal that is unbound.
    pub(crate) kdh: Option<&'a Kdh>,
    /// The keys that went.
    pub(crate) destroyed: &'a [DestroyedKey],
}

/// Signs what an unbind or rebind token has done.
///
/// # Errors
/// The key did not sign.
pub(crate) fn sign_acknowledgement(
    key: &SigningKey,
    serial: &DeviceSerial,
    obeyed: &Obeyed<'_>,
) -> Result<PendingAcknowledgement, HsmError> {
    let destroyed = obeyed.destroyed.iter().map(|key| v1::DestroyedKey {
        slot: key.slot.as_str().to_owned(),
        key_version: key.key_version,
    });
    let statement = BindingStatement {
        context: BINDING_CONTEXT.to_owned(),
        serial_number: serial.as_str().to_owned(),
        token_sha256: obeyed.token.as_bytes().to_vec(),
        previous_kdh: obeyed.previous.id().to_der(),
        kdh: obeyed.kdh.map_or_else(Vec::new, |kdh| kdh.id().to_der()),
        destroyed_keys: destroyed.collect(),
    }
    .encode_to_vec();
    let signature = key.sign(&statement)?;
    Ok(PendingAcknowledgement {
        token_sha256: obeyed.token.into(),
        statement: HexBytes(statement),
        signature: HexBytes(signature),
    })
}

impl From<PendingAcknowledgement> for Receipt {
    fn from(acknowledgement: PendingAcknowledgement) -> Self {
        Self {
            statement: acknowledgement.statement.0,
            signature: acknowledgement.signature.0,
        }
    }
}

impl From<PendingReport> for Receipt {
    fn from(report: PendingReport) -> Self {
        Self {
            statement: report.statement.0,
            signature: report.signature.0,
        }
    }
}

fn kcv_to_wire(kcv: &Kcv) -> KeyCheckValue {
    let method = match kcv.method() {
        KcvMethod::TdeaEcb => Method::TdeaEcb,
        KcvMethod::AesCmac => Method::AesCmac,
    };
    KeyCheckValue {
        method: method.into(),
        value: kcv.value().to_vec(),
    }
}

/// From the wire; `None` for what is no check value.
pub(crate) fn kcv_from_wire(kcv: Option<&KeyCheckValue>) -> Option<Kcv> {
    let kcv = kcv?;
    let method = match kcv.method() {
        Method::TdeaEcb => KcvMethod::TdeaEcb,
        Method::AesCmac => KcvMethod::AesCmac,
        Method::Unspecified => return None,
    };
    Kcv::new(method, &kcv.value).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn check_values_survive_the_wire() {
        for method in [KcvMethod::TdeaEcb, KcvMethod::AesCmac] {
            let kcv = Kcv::new(method, &[1, 2, 3]).unwrap();
            assert_eq!(kcv_from_wire(Some(&kcv_to_wire(&kcv))), Some(kcv));
        }
    }

    #[test]
    fn what_is_no_check_value_is_none() {
        let wire = |method: i32, len| {
            Some(KeyCheckValue {
                method,
                value: vec![0xAB; len],
            })
        };
        for (case, kcv) in [
            ("absent", None),
            ("no method", wire(0, 3)),
            ("unknown method", wire(3, 3)),
            ("empty", wire(2, 0)),
            ("too short", wire(2, 2)),
            ("too long", wire(2, 6)),
        ] {
            assert_eq!(kcv_from_wire(kcv.as_ref()), None, "{case}");
        }
    }
}
