//! Whether a token's checks hold: what a careful terminal checks before it opens it.

use pki::{Certificate, Crl, Role, VerifiedCrl, verify_credential, verify_crl, verify_sub_ca};
use serde::Serialize;
use time::OffsetDateTime;
use tr34::{Freshness, IssuerAndSerial, KeyToken, KrdNonce, SignerPart, SigningTime};

use crate::{Party, Token, Unrecognised, recognise};

/// What a token is checked against.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Trusted CAs: that of the signer, and the root above it if there is one.
    pub anchors: Vec<Certificate>,
    /// A revocation list of the signer's CA, DER; needed where the token brings none.
    pub crl: Option<Vec<u8>>,
    /// The nonce that the terminal sent.
    pub nonce: Option<KrdNonce>,
    /// The certificate of the KDH that the terminal is bound to.
    pub kdh: Option<Certificate>,
    /// The encryption certificate of the terminal that the token is for.
    pub krd: Option<Certificate>,
    /// The time to check for.
    pub at: OffsetDateTime,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked: stable.
    pub check: &'static str,
    /// Whether it holds.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "detail", rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds; of what.
    Holds(String),
    /// It does not; why.
    Fails(String),
    /// Something is missing to tell; what.
    NotChecked(String),
}

impl Outcome {
    /// Whether it holds. What was not checked does not.
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Holds(_))
    }

    fn of<T>(result: Result<T, impl ToString>, holds: impl FnOnce(&T) -> String) -> Self {
        match result {
            Ok(value) => Self::Holds(holds(&value)),
            Err(error) => Self::Fails(error.to_string()),
        }
    }
}

/// Checks a token: each check with its result, in the order in which a terminal makes them.
///
/// # Errors
/// The bytes are no token of any profile.
pub fn verify(der: &[u8], evidence: &Evidence) -> Result<Vec<Check>, Unrecognised> {
    let (token, profiles) = recognise(der)?;
    let names: Vec<_> = profiles.iter().map(|profile| profile.name()).collect();
    let form = format!("{}, {}", token.word(), names.join(", "));
    let mut checks = Checks {
        evidence,
        made: Vec::new(),
    };
    checks.add("form", Outcome::Holds(form));
    checks.make(&token);
    Ok(checks.made)
}

struct Checks<'a> {
    evidence: &'a Evidence,
    made: Vec<Check>,
}

impl Checks<'_> {
    fn add(&mut self, check: &'static str, outcome: Outcome) {
        self.made.push(Check { check, outcome });
    }

    fn make(&mut self, token: &Token<'_>) {
        match token {
            Token::Random(token) => self.nonce(token.nonce()),
            Token::KrdCredential(token) => {
                let certificate = Certificate::from_der(token.certificate());
                self.credential("krd-certificate", certificate, Role::Krd, None);
            }
            Token::KdhCredential(token) => {
                let certificate = Certificate::from_der(token.certificate());
                self.credential("kdh-certificate", certificate, Role::Kdh, Some(token.crl()));
            }
            Token::Key(token) => {
                self.signed_by_kdh(token.signed_by(), token.crl());
                match token.freshness() {
                    Freshness::Nonce(nonce) => self.nonce(nonce),
                    Freshness::SigningTime(time) => self.signing_time(*time),
                }
                self.recipient(token.enveloped().recipient());
                self.cipher(token);
            }
            Token::KdhUnbind(token) => {
                self.signed_by_kdh(token.signed_by(), token.crl());
                self.nonce(token.nonce());
                self.recipient(token.krd());
            }
            Token::KdhRebind(token) => {
                self.signed_by_kdh(token.signed_by(), token.crl());
                self.nonce(token.nonce());
                self.recipient(token.krd());
                self.new_kdh(token.new_kdh_certificate(), token.crl());
            }
            Token::CaUnbind(token) => {
                self.signed_by_ca(token.signed_by(), token.krd());
                self.recipient(token.krd());
                self.names_kdh(token.kdh());
            }
            Token::CaRebind(token) => {
                self.signed_by_ca(token.signed_by(), token.krd());
                self.signing_time(token.signing_time());
                self.recipient(token.krd());
                self.names_kdh(token.kdh());
                self.new_kdh(token.new_kdh_certificate(), None);
            }
            Token::Enveloped(_) | Token::KeyBlock(_) => self.add(
                "signature",
                Outcome::Fails("this is a part of a token, which nobody signs by itself".into()),
            ),
        }
    }

    fn nonce(&mut self, found: &KrdNonce) {
        let shown = hex::encode_upper(found.as_bytes());
        let outcome = match &self.evidence.nonce {
            None => Outcome::NotChecked(format!(
                "the token has {shown}: give the nonce that the terminal sent with --nonce"
            )),
            Some(sent) if sent == found => Outcome::Holds(shown),
            Some(_) => Outcome::Fails(format!("the token has {shown}, which is another")),
        };
        self.add("nonce", outcome);
    }

    fn signing_time(&mut self, time: SigningTime) {
        let at = self.evidence.at.unix_timestamp();
        let signed = i64::try_from(time.unix_seconds()).unwrap_or(i64::MAX);
        let outcome = if signed > at {
            Outcome::Fails(format!("{time} lies in the future"))
        } else {
            Outcome::Holds(format!(
                "{time}; only the terminal knows whether it has taken a later one"
            ))
        };
        self.add("signing-time", outcome);
    }

    fn recipient(&mut self, named: &IssuerAndSerial) {
        let shown = Party::of(named).to_string();
        let outcome = match &self.evidence.krd {
            None => Outcome::NotChecked(format!(
                "it is for {shown}: give the terminal's encryption certificate with --krd"
            )),
            Some(krd) if krd.issuer_and_serial().is_ok_and(|id| id == *named) => {
                Outcome::Holds(shown)
            }
            Some(_) => Outcome::Fails(format!("it is for {shown}, another terminal")),
        };
        self.add("recipient", outcome);
    }

    /// Whether Ke is strong enough for some key with the header.
    fn cipher(&mut self, token: &KeyToken) {
        let (cipher, header) = (token.enveloped().cipher(), token.header());
        let mut kinds = [16, 24, 32].into_iter();
        let carries = |len| header.key_kind(len).is_ok_and(|kind| cipher.carries(kind));
        let outcome = if kinds.any(carries) {
            Outcome::Holds(cipher.name().into())
        } else {
            Outcome::Fails(format!(
                "{}, too weak for every key with header {header}",
                cipher.name()
            ))
        };
        self.add("cipher", outcome);
    }

    /// The KDH's certificate: path, role, validity, revocation; then its signature.
    fn signed_by_kdh(&mut self, part: &SignerPart, crl: Option<&[u8]>) {
        let Some(kdh) = self.evidence.kdh.clone() else {
            let hint = format!(
                "signed by {}: give its certificate with --kdh",
                Party::of(part.signer())
            );
            for check in ["crl", "kdh-certificate", "signer", "signature"] {
                self.add(check, Outcome::NotChecked(hint.clone()));
            }
            return;
        };
        self.credential("kdh-certificate", Ok(kdh.clone()), Role::Kdh, crl);
        self.signature(part, &kdh);
    }

    /// The CA's certificate is one of the anchors, and the CA that certified the terminal.
    fn signed_by_ca(&mut self, part: &SignerPart, krd: &IssuerAndSerial) {
        let is_signer = |anchor: &&Certificate| {
            anchor
                .issuer_and_serial()
                .is_ok_and(|id| id == *part.signer())
        };
        let of_signer = |problem| format!("signed by {}, {problem}", Party::of(part.signer()));
        let Some(ca) = self.evidence.anchors.iter().find(is_signer).cloned() else {
            let hint = of_signer("which is none of the anchors");
            return self.add("signer", Outcome::Fails(hint));
        };
        let chain = self.ca(&ca);
        self.add("ca-certificate", chain);
        if ca.subject().der() != krd.issuer_der() {
            let hint = of_signer("which is not the CA that certified the terminal");
            return self.add("signer", Outcome::Fails(hint));
        }
        self.signature(part, &ca);
    }

    fn signature(&mut self, part: &SignerPart, by: &Certificate) {
        let is_signer = by.issuer_and_serial().is_ok_and(|id| id == *part.signer());
        let signer = Party::of(part.signer()).to_string();
        let outcome = if is_signer {
            Outcome::Holds(signer)
        } else {
            Outcome::Fails(format!("signed by {signer}, which is another"))
        };
        self.add("signer", outcome);
        let verified = by
            .public_key()
            .verify(part.signed_bytes(), part.signature());
        self.add(
            "signature",
            Outcome::of(verified, |()| "RSA PKCS#1 v1.5 with SHA-256".into()),
        );
    }

    fn names_kdh(&mut self, named: &IssuerAndSerial) {
        let shown = Party::of(named).to_string();
        let outcome = match &self.evidence.kdh {
            None => Outcome::NotChecked(format!(
                "it takes the terminal from {shown}: give the certificate of the KDH that it is \
                 bound to with --kdh"
            )),
            Some(kdh) if kdh.issuer_and_serial().is_ok_and(|id| id == *named) => {
                Outcome::Holds(shown)
            }
            Some(_) => Outcome::Fails(format!("it takes the terminal from {shown}, another KDH")),
        };
        self.add("kdh", outcome);
    }

    /// The new KDH's certificate, by the same CA as that of the bound one.
    fn new_kdh(&mut self, der: &[u8], crl: Option<&[u8]>) {
        let check = "new-kdh-certificate";
        let certificate = Certificate::from_der(der);
        let is_by_other = |certificate: &Certificate| {
            let kdh = self.evidence.kdh.as_ref();
            kdh.is_some_and(|kdh| kdh.issuer() != certificate.issuer())
        };
        if certificate.as_ref().is_ok_and(is_by_other) {
            let hint = "it is by another CA than that of the KDH that the terminal is bound to";
            return self.add(check, Outcome::Fails(hint.into()));
        }
        self.credential(check, certificate, Role::Kdh, crl);
    }

    /// A certificate with its CA and revocation list.
    fn credential(
        &mut self,
        check: &'static str,
        certificate: Result<Certificate, pki::CertificateError>,
        role: Role,
        crl: Option<&[u8]>,
    ) {
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(error) => return self.add(check, Outcome::Fails(error.to_string())),
        };
        let issued = |anchor: &&Certificate| anchor.subject() == certificate.issuer();
        let Some(ca) = self.evidence.anchors.iter().find(issued).cloned() else {
            let hint = format!(
                "its CA is {}, which is none of the anchors (--anchor)",
                certificate.issuer()
            );
            return self.add(check, Outcome::Fails(hint));
        };
        let chain = self.ca(&ca);
        self.add("ca-certificate", chain);
        let Some(list) = self.crl(&ca, crl) else {
            let hint = "not without a revocation list that holds";
            return self.add(check, Outcome::NotChecked(hint.into()));
        };
        let verified = verify_credential(&certificate, &ca, role, &list, self.evidence.at);
        self.add(
            check,
            Outcome::of(verified, |it| Party::of(it.id()).to_string()),
        );
    }

    /// The list in the token, and one that was given: each has to hold; the newer one counts.
    fn crl(&mut self, ca: &Certificate, in_token: Option<&[u8]>) -> Option<VerifiedCrl> {
        let evidence = self.evidence;
        let lists = [("crl", in_token), ("given-crl", evidence.crl.as_deref())];
        let mut newest: Option<VerifiedCrl> = None;
        for (check, der) in lists {
            let Some(der) = der else { continue };
            // A list that was given may be another CA's, where a token concerns two.
            let of_other = Crl::from_der(der).is_ok_and(|crl| crl.issuer() != ca.subject());
            if check == "given-crl" && of_other {
                continue;
            }
            let verified = verify_crl(der, ca, evidence.at, None);
            let outcome = match &verified {
                Ok(list) => Outcome::Holds(format!("number {}", list.number())),
                Err(error) => Outcome::Fails(error.to_string()),
            };
            self.add(check, outcome);
            let list = verified.ok()?;
            if newest
                .as_ref()
                .is_none_or(|newest| list.number() > newest.number())
            {
                newest = Some(list);
            }
        }
        if newest.is_none() {
            let hint = "the token brings none of this CA: give one with --crl";
            self.add("crl", Outcome::NotChecked(hint.into()));
        }
        newest
    }

    /// An anchor has to be a CA that holds; if the root above it is an anchor as well, the path is checked.
    fn ca(&self, ca: &Certificate) -> Outcome {
        let above = |anchor: &&Certificate| {
            anchor.subject() == ca.issuer() && anchor.subject() != ca.subject()
        };
        let name = ca.common_name().unwrap_or_default();
        let at = self.evidence.at;
        if let Some(root) = self.evidence.anchors.iter().find(above) {
            return Outcome::of(verify_sub_ca(ca, root, at), |()| {
                format!("{name}, by {}", root.common_name().unwrap_or_default())
            });
        }
        if let Err(error) = Role::SubCa.verify(ca) {
            return Outcome::Fails(format!("{name} is no CA of terminals or hosts: {error}"));
        }
        if at < ca.not_before() || at > ca.not_after() {
            return Outcome::Fails(format!("{name} does not hold at this time"));
        }
        Outcome::Holds(format!("{name}, as given"))
    }
}
