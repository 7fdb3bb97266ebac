//! A terminal in a file, on its way from one host to another: two certificates, PEM, behind lines of text.

use std::{fs, path::Path};

use kdh_proto::v1::DeviceExport;
use pki::{Certificate, Role};

use crate::{failure::Failure, token_file};

const DEVICE: &str = "Device: ";
const MODEL: &str = "Model: ";
const END: &str = "-----END CERTIFICATE-----";
/// Two certificates and some lines are far shorter.
const MAX_LEN: u64 = 64 * 1024;

/// Writes it into a file that does not exist yet.
pub(crate) fn write_new(path: &Path, device: &DeviceExport) -> Result<(), Failure> {
    let again = "nothing was changed: export it again";
    let pem = |der: &[u8]| match Certificate::from_der(der) {
        Ok(certificate) => Ok(certificate.to_pem()),
        Err(error) => Err(Failure::failed(format!("the host's answer: {error}"), None)),
    };
    let text = format!(
        "Terminal of a key distribution host, for \"kdhctl device admit --from\" at another one.\n\
         {DEVICE}{}\n{MODEL}{}\n\n{}{}",
        device.serial_number,
        device.model,
        pem(&device.encryption_certificate)?,
        pem(&device.authentication_certificate)?,
    );
    token_file::write_new_text(path, &text, again)
}

/// Reads it back. Whether the certificates are good is for the host to say; that they are none, or not those of a
/// terminal, is said here, with the file's name.
pub(crate) fn read(path: &Path) -> Result<DeviceExport, Failure> {
    let fault = |fault: &dyn std::fmt::Display| {
        Failure::usage(format!("--from {}: {fault}", path.display()))
    };
    let len = fs::metadata(path).map_err(|error| fault(&error))?.len();
    if len > MAX_LEN {
        return Err(fault(&"too long for a terminal"));
    }
    let text = fs::read_to_string(path).map_err(|error| fault(&error))?;
    parse(&text).map_err(|error| fault(&error))
}

fn parse(text: &str) -> Result<DeviceExport, String> {
    let (lines, certificates) = text
        .split_once("-----BEGIN ")
        .ok_or("there are no certificates in it")?;
    // What was split off.
    let certificates = format!("-----BEGIN {certificates}");
    let blocks: Vec<_> = certificates.split_inclusive(END).collect();
    let [encryption, authentication, rest] = blocks[..] else {
        return Err("there are not two certificates in it".to_owned());
    };
    if !rest.trim().is_empty() {
        return Err("there is more in it behind the certificates".to_owned());
    }
    Ok(DeviceExport {
        serial_number: line(lines, DEVICE)?,
        model: line(lines, MODEL)?,
        encryption_certificate: certificate(encryption, Role::Krd)?,
        authentication_certificate: certificate(authentication, Role::KrdTls)?,
    })
}

fn line(lines: &str, name: &str) -> Result<String, String> {
    let mut found = lines.lines().filter_map(|line| line.strip_prefix(name));
    match (found.next(), found.next()) {
        (Some(value), None) => Ok(value.to_owned()),
        _ => Err(format!("there is not one line \"{name}…\" in it")),
    }
}

fn certificate(pem: &str, role: Role) -> Result<Vec<u8>, String> {
    let certificate = Certificate::from_pem(pem.trim_start()).map_err(|error| error.to_string())?;
    role.verify(&certificate)
        .map_err(|error| error.to_string())?;
    Ok(certificate.der().to_vec())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const KRD: &str = include_str!("testdata/krd.pem");
    const KRD_TLS: &str = include_str!("testdata/krd-tls.pem");

    fn file(lines: &str, blocks: &[&str]) -> String {
        format!("{lines}\n{}", blocks.concat())
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_is_overwritten() {
        let der = |pem: &str| Certificate::from_pem(pem).unwrap().der().to_vec();
        let device = DeviceExport {
            serial_number: "SN-1".to_owned(),
            model: "Model: X".to_owned(),
            encryption_certificate: der(KRD),
            authentication_certificate: der(KRD_TLS),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sn-1.pem");
        write_new(&path, &device).unwrap();
        assert_eq!(read(&path).unwrap(), device);
        assert_eq!(write_new(&path, &device).unwrap_err().exit_code, 1);
        let nothing = DeviceExport::default();
        write_new(&folder.path().join("other.pem"), &nothing).unwrap_err();
        fs::write(&path, "x".repeat(70_000)).unwrap();
        for path in [path, folder.path().join("none.pem")] {
            let failure = read(&path).unwrap_err();
            assert_eq!(failure.exit_code, 2);
            assert!(failure.to_string().contains("--from "), "{failure}");
        }
    }

    #[test]
    fn a_file_with_anything_else_is_refused() {
        const LINES: &str = "Device: SN-1\nModel: X\n";
        parse(&file(LINES, &[KRD, KRD_TLS])).unwrap();
        let operator = include_str!("testdata/operator.pem");
        let ca = include_str!("testdata/ca-ops.pem");
        let cut = &KRD_TLS[..KRD_TLS.len() / 2];
        for (case, text) in [
            ("nothing", String::new()),
            ("lines alone", LINES.to_owned()),
            ("no lines", file("", &[KRD, KRD_TLS])),
            ("no device", file("Model: X\n", &[KRD, KRD_TLS])),
            ("no model", file("Device: SN-1\n", &[KRD, KRD_TLS])),
            (
                "two devices",
                file(&format!("{LINES}Device: SN-2\n"), &[KRD, KRD_TLS]),
            ),
            (
                "lines behind the certificates",
                file("", &[KRD, KRD_TLS, LINES]),
            ),
            ("one certificate", file(LINES, &[KRD])),
            ("three certificates", file(LINES, &[KRD, KRD_TLS, KRD_TLS])),
            ("the other way round", file(LINES, &[KRD_TLS, KRD])),
            ("one twice", file(LINES, &[KRD, KRD])),
            ("an operator's", file(LINES, &[KRD, operator])),
            ("a CA's", file(LINES, &[ca, KRD_TLS])),
            ("cut off", file(LINES, &[KRD, cut])),
            ("more behind", file(LINES, &[KRD, KRD_TLS, "more"])),
            (
                "another kind of PEM",
                file(LINES, &[KRD, KRD_TLS]).replace("CERTIFICATE", "CMS"),
            ),
        ] {
            assert!(parse(&text).is_err(), "{case}");
        }
    }
}
