//! The samples printed in TR-34:2019 Annex B, where a copy of them lies beside the workspace;
//! otherwise these tests say that they are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use der::{Decode, Encode};
use pki::{Certificate, Crl, CrlError, verify_crl};
use time::macros::datetime;
use x509_cert::crl::CertificateList;

fn samples() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/tr34-2019");
    if !folder.is_dir() {
        report_skipped();
        return None;
    }
    Some(folder)
}

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn report_skipped() {
    eprintln!("skipped: no published samples tr34-2019");
}

#[test]
fn the_list_of_ca_kdh_is_read_and_written() {
    let Some(folder) = samples() else { return };
    let der = fs::read(folder.join("b.2.1.3-ca-kdh-crl.der")).unwrap();
    let crl = Crl::from_der(&der).unwrap();
    let issuer = crl.issuer().to_string();
    assert_eq!(issuer, "CN=TR34 Sample CA KDH,O=TR34 Samples,C=US");
    assert_eq!(crl.this_update(), datetime!(2010-11-02 17:33:30 UTC));
    assert_eq!(crl.next_update(), datetime!(2010-12-02 17:33:30 UTC));
    let serials: Vec<String> = crl.revoked().iter().map(ToString::to_string).collect();
    assert_eq!(serials, ["3400000008", "340000000A", "340000000B"]);
    assert_eq!(crl.number(), None, "it has no extensions");

    let list: CertificateList = CertificateList::from_der(&der).unwrap();
    assert_eq!(list.to_der().unwrap(), der);
    let pem = fs::read(folder.join("b.2.1.3-ca-kdh-crl.pem")).unwrap();
    assert_eq!(Crl::from_pem_or_der(&pem).unwrap().der(), der);
}

#[test]
fn the_list_of_ca_kdh_is_not_accepted_as_evidence() {
    let Some(folder) = samples() else { return };
    let der = fs::read(folder.join("b.2.1.3-ca-kdh-crl.der")).unwrap();
    let pem = fs::read_to_string(folder.join("b.2.1.2-ca-kdh.cert.pem")).unwrap();
    let ca = Certificate::from_pem(&pem).unwrap();
    let fresh = datetime!(2010-11-10 00:00 UTC);
    let found = verify_crl(&der, &ca, fresh, None).map(|_| ());
    // Issuer and signature are right; without a number it cannot be told from an older one.
    assert_eq!(found, Err(CrlError::NoNumber));
}
