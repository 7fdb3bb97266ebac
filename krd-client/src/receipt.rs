//! Receipts: what the terminal says about a delivery, signed in its token.

use hsm::{HsmError, Kcv, KcvMethod, SigningKey};
use kdh_proto::{
    RECEIPT_CONTEXT,
    v1::{KeyCheckValue, Receipt, ReceiptStatement, key_check_value::Method},
};
use pki::Signer as _;
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::{
    DeviceSerial, SlotName,
    record::{HexBytes, PendingReport},
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
