//! Keys that the host hands out.

use hsm::{Kcv, KcvMethod};
use kdh_proto::v1::{
    AskDiscardRequest, AssignKeyRequest, KeyCheckValue, ListKeysRequest, RegisterKeyRequest,
    key_check_value,
};
use tr34::{Kbh, KeyAlgorithm};

use super::refused;
use crate::{
    cli::KeyCommand,
    failure::Failure,
    report::{self, Report},
    session::{Session, request},
};

pub(super) async fn run(command: KeyCommand, session: Session) -> Result<Report, Failure> {
    let mut client = session.administration;
    match command {
        KeyCommand::Register {
            name,
            hsm_label,
            header,
            kcv,
            kcv_method,
        } => {
            let kcv = check_value(&header, &kcv, kcv_method.map(KcvMethod::from))?;
            let message = RegisterKeyRequest {
                name,
                hsm_label,
                header: header.to_string(),
                kcv: Some(kcv),
            };
            let key = client.register_key(request(message)).await?;
            Ok(report::key(key.get_ref()))
        }
        KeyCommand::List => {
            let keys = client.list_keys(request(ListKeysRequest {})).await?;
            Ok(report::keys(&keys.get_ref().keys))
        }
        KeyCommand::Assign {
            device,
            slot,
            key,
            by_profile: _,
            encryption_key,
        } => {
            let message = AssignKeyRequest {
                serial_number: device,
                slot,
                key_name: key.unwrap_or_default(),
                encryption_key_sha256: encryption_key.unwrap_or_default(),
            };
            let assignment = client.assign_key(request(message)).await?;
            Ok(report::assignment(assignment.get_ref()))
        }
        KeyCommand::Refused { device } => refused::list(device, session.channel).await,
        KeyCommand::Discard {
            device,
            slot,
            version,
            why,
        } => {
            let message = AskDiscardRequest {
                serial_number: device,
                slot,
                key_version: version,
                why,
            };
            refused::discard(message, session.channel).await
        }
    }
}

/// A check value by the method that was named, or else the one for keys of the header's algorithm.
pub(super) fn check_value(
    header: &Kbh,
    digits: &str,
    method: Option<KcvMethod>,
) -> Result<KeyCheckValue, Failure> {
    let usual = match header.algorithm() {
        KeyAlgorithm::Aes => Some(KcvMethod::AesCmac),
        KeyAlgorithm::Tdea => Some(KcvMethod::TdeaEcb),
        _ => None,
    };
    let method = method.or(usual).ok_or_else(|| {
        Failure::usage(format!(
            "--header {header}: keys of this algorithm cannot be handed out; AES (A) and TDEA (T) \
             can"
        ))
    })?;
    kcv_message(method, digits)
}

/// A check value by this method.
pub(super) fn kcv_message(method: KcvMethod, digits: &str) -> Result<KeyCheckValue, Failure> {
    let kcv = Kcv::parse(method, digits)
        .map_err(|error| Failure::usage(format!("--kcv {digits}: {error}")))?;
    let method = match method {
        KcvMethod::AesCmac => key_check_value::Method::AesCmac,
        KcvMethod::TdeaEcb => key_check_value::Method::TdeaEcb,
    };
    Ok(KeyCheckValue {
        method: method.into(),
        value: kcv.value().to_vec(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use key_check_value::Method::{AesCmac, TdeaEcb};

    use super::*;

    const AES: &str = "D0000K0AB00E0000";
    const TDEA: &str = "D0000K0TB00E0000";
    const RSA: &str = "D0000K0RB00E0000";

    fn parse(header: &str, digits: &str, method: Option<KcvMethod>) -> Result<KeyCheckValue, u8> {
        check_value(&header.parse().unwrap(), digits, method).map_err(|failure| failure.exit_code)
    }

    #[test]
    fn the_method_follows_from_the_header_unless_named() {
        for (header, named, expected) in [
            (AES, None, AesCmac),
            (TDEA, None, TdeaEcb),
            (TDEA, Some(KcvMethod::AesCmac), AesCmac),
            (AES, Some(KcvMethod::TdeaEcb), TdeaEcb),
        ] {
            let kcv = parse(header, "3f1a9C", named).unwrap();
            assert_eq!(kcv.method(), expected, "{header}");
            assert_eq!(kcv.value, [0x3F, 0x1A, 0x9C]);
        }
    }

    #[test]
    fn what_is_no_check_value_is_a_fault_in_usage() {
        for digits in ["", "3F1A", "3F1A9", "3F1A9G", "3F1A9C112233", "3F 1A 9C"] {
            assert_eq!(parse(AES, digits, None), Err(2), "{digits:?}");
        }
        assert_eq!(parse(RSA, "3F1A9C", None), Err(2));
    }
}
