//! Certificates of key distribution hosts that are named on the command line.

use std::{fs, path::Path};

use pki::{Certificate, Role};

use crate::failure::Failure;

/// The DER of a KDH certificate in a PEM file. Whether it is good is for the host to say; that it is none at
/// all is said here, with the file's name.
pub(super) fn kdh(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let fault = |fault: &dyn std::fmt::Display| {
        Failure::usage(format!("{option} {}: {fault}", path.display()))
    };
    let pem = fs::read_to_string(path).map_err(|error| fault(&error))?;
    let certificate = Certificate::from_pem(&pem).map_err(|error| fault(&error))?;
    Role::Kdh
        .verify(&certificate)
        .map_err(|error| fault(&error))?;
    Ok(certificate.der().to_vec())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kdh_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let operator = include_str!("../testdata/operator.pem");
        for (case, content) in [
            ("nothing", ""),
            ("no PEM", "certificate"),
            (
                "another kind of PEM",
                "-----BEGIN CMS-----\nMAA=\n-----END CMS-----\n",
            ),
            ("an operator's certificate", operator),
            ("a CA's certificate", include_str!("../testdata/ca-ops.pem")),
            ("two certificates", &[operator, operator].concat()),
        ] {
            let path = folder.path().join("kdh.pem");
            fs::write(&path, content).unwrap();
            let failure = kdh("--to", &path).unwrap_err();
            assert_eq!(failure.exit_code, 2, "{case}");
            let text = failure.to_string();
            assert!(
                text.contains("--to ") && text.contains("kdh.pem"),
                "{case}: {text}"
            );
        }
        let missing = kdh("--kdh", &folder.path().join("none.pem")).unwrap_err();
        assert!(missing.to_string().contains("none.pem"), "{missing}");
    }
}
