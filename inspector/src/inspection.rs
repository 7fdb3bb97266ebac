//! What stands in a token, in words.

use der::Decode;
use pki::{Crl, rfc3339};
use serde::Serialize;
use time::OffsetDateTime;
use tr34::{
    ContentCipher, EnvelopedKeyBlock, Freshness, IssuerAndSerial, Kbh, OaepHash, OptionalBlock,
    Profile, SignerPart,
};
use x509_cert::name::Name;

use crate::{Token, Unrecognised, recognise};

/// What a token says of itself. None of it is verified; a field that the token does not have is `None`.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `rt-krd`, `ct-krd`, `ct-kdh`, `kt-kdh-one-pass`, `kt-kdh-two-pass`, `ubt-kdh`, `ubt-ca`,
    /// `rbt-kdh`, `rbt-ca`, `key-block` or `enveloped-data`.
    pub kind: &'static str,
    /// The profile that it is of; the default one if that is among [`Self::profiles`].
    pub profile: &'static str,
    /// Every profile that writes it so.
    pub profiles: Vec<&'static str>,
    /// Bytes.
    pub length: usize,
    /// Who is said to have signed.
    pub signer: Option<Party>,
    /// The terminal that a key is encrypted to, or that is let go or handed over.
    pub recipient: Option<Party>,
    /// The KDH that the higher authority takes the terminal from, or that made a clear key block.
    pub kdh: Option<Party>,
    /// Hexadecimal digits.
    pub nonce: Option<String>,
    /// RFC 3339.
    pub signing_time: Option<String>,
    /// Key block header.
    pub header: Option<HeaderWords>,
    /// The cipher under Ke.
    pub ke_algorithm: Option<&'static str>,
    /// The hash in RSA-OAEP.
    pub oaep_hash: Option<&'static str>,
    /// Number of the revocation list; `None` as well where the list has none.
    pub crl_number: Option<u64>,
    /// The revocation list.
    pub crl: Option<CrlSummary>,
    /// The certificates in it.
    pub certificates: Vec<CertificateSummary>,
    /// Bytes of the clear key of a key block. The key itself is not shown.
    pub key_length: Option<usize>,
    /// What is unusual.
    pub warnings: Vec<Warning>,
}

/// A certificate's holder, as tokens name them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Party {
    /// As in RFC 4514.
    pub issuer: String,
    /// Hexadecimal digits.
    pub serial: String,
}

/// A key block header, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderWords {
    /// Its characters, 16 or more.
    pub text: String,
    /// Key usage.
    pub usage: String,
    /// Algorithm.
    pub algorithm: String,
    /// Mode of use.
    pub mode: String,
    /// Exportability.
    pub exportability: String,
    /// Its optional blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub optional_blocks: Vec<String>,
}

/// A certificate in a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateSummary {
    /// As in RFC 4514.
    pub subject: String,
    /// As in RFC 4514.
    pub issuer: String,
    /// Hexadecimal digits.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
}

/// A revocation list in a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrlSummary {
    /// As in RFC 4514.
    pub issuer: String,
    /// RFC 3339.
    pub this_update: String,
    /// RFC 3339.
    pub next_update: String,
    /// Seconds since it was made; negative if it comes from the future.
    pub age_seconds: i64,
    /// Serial numbers on it, hexadecimal digits.
    pub revoked: Vec<String>,
}

/// An oddity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What is so.
    pub what: String,
    /// What says how it should be.
    pub clause: String,
}

/// Looks at a token. `now` is what ages and validities are measured by.
///
/// # Errors
/// The bytes are no token of any profile.
pub fn inspect(der: &[u8], now: OffsetDateTime) -> Result<Inspection, Unrecognised> {
    let (token, profiles) = recognise(der)?;
    let profile = profiles.first().copied().unwrap_or_default();
    let mut inspection = Inspection {
        kind: token.word(),
        profile: profile.name(),
        profiles: profiles.into_iter().map(Profile::name).collect(),
        length: der.len(),
        signer: None,
        recipient: None,
        kdh: None,
        nonce: None,
        signing_time: None,
        header: None,
        ke_algorithm: None,
        oaep_hash: None,
        crl_number: None,
        crl: None,
        certificates: Vec::new(),
        key_length: None,
        warnings: Vec::new(),
    };
    for departure in profile.departures(token.kind()) {
        inspection.warn(departure.what, departure.clause);
    }
    inspection.fill(&token, profile, der, now);
    Ok(inspection)
}

impl Inspection {
    fn fill(&mut self, token: &Token<'_>, profile: Profile, der: &[u8], now: OffsetDateTime) {
        match token {
            Token::Random(token) => self.nonce(token.nonce().as_bytes()),
            Token::KrdCredential(token) => self.certificate(token.certificate(), now),
            Token::KdhCredential(token) => {
                self.certificate(token.certificate(), now);
                self.crl(token.crl(), now);
            }
            Token::Key(token) => {
                self.signed_by(token.signed_by(), profile);
                self.signing_time = token.signing_time().map(|time| time.to_string());
                if let Freshness::Nonce(nonce) = token.freshness() {
                    self.nonce(nonce.as_bytes());
                }
                self.header(token.header(), None);
                self.crl_if_any(token.crl(), now);
                self.enveloped(token.enveloped());
                self.first_print(token.enveloped(), profile, der);
            }
            Token::KdhUnbind(token) => {
                self.signed_by(token.signed_by(), profile);
                self.nonce(token.nonce().as_bytes());
                self.crl_if_any(token.crl(), now);
                self.recipient = Some(Party::of(token.krd()));
            }
            Token::KdhRebind(token) => {
                self.signed_by(token.signed_by(), profile);
                self.nonce(token.nonce().as_bytes());
                self.crl_if_any(token.crl(), now);
                self.recipient = Some(Party::of(token.krd()));
                self.certificate(token.new_kdh_certificate(), now);
            }
            Token::CaUnbind(token) => {
                self.signed_by(token.signed_by(), profile);
                self.recipient = Some(Party::of(token.krd()));
                self.kdh = Some(Party::of(token.kdh()));
                self.replayable();
            }
            Token::CaRebind(token) => {
                self.signed_by(token.signed_by(), profile);
                self.signing_time = Some(token.signing_time().to_string());
                self.recipient = Some(Party::of(token.krd()));
                self.kdh = Some(Party::of(token.kdh()));
                self.certificate(token.new_kdh_certificate(), now);
                self.replayable();
            }
            Token::Enveloped(enveloped) => {
                self.enveloped(enveloped);
                self.first_print(enveloped, profile, der);
            }
            Token::KeyBlock(block) => {
                let key_len = block.expose_clear().len();
                self.kdh = Some(Party::of(block.kdh()));
                self.header(block.header(), Some(key_len));
                self.key_length = Some(key_len);
                self.warn(
                    "this is a key in clear: whoever can read the file has it",
                    "TR-34 B.2.2.3: a key block is sent in an EnvelopedData",
                );
            }
        }
    }

    fn warn(&mut self, what: impl Into<String>, clause: impl Into<String>) {
        self.warnings.push(Warning {
            what: what.into(),
            clause: clause.into(),
        });
    }

    fn replayable(&mut self) {
        self.warn(
            "nothing in it keeps it from being sent again: it has no nonce",
            "TR-34 B.10, B.13: so by design; a terminal must remember what it has obeyed",
        );
    }

    fn nonce(&mut self, nonce: &[u8]) {
        self.nonce = Some(hex::encode_upper(nonce));
        if nonce.len() < Profile::X9_2019.nonce_len() {
            self.warn(
                format!("the nonce has {} bytes only", nonce.len()),
                "TR-34 B.9, B.12: 16 bytes",
            );
        }
    }

    /// The signer. Of the profile's departures, one depends on the token: attributes in the printed order
    /// may be in DER's order as well.
    fn signed_by(&mut self, part: &SignerPart, profile: Profile) {
        self.signer = Some(Party::of(part.signer()));
        if profile != Profile::X9_2019 && is_sorted_set(part.signed_bytes()) {
            self.warnings
                .retain(|warning| !warning.clause.contains("X.690 11.6"));
        }
    }

    fn header(&mut self, header: &Kbh, key_len: Option<usize>) {
        self.header = Some(HeaderWords::of(header));
        if header.version() == "A" {
            self.warn(
                "the header is of key block version A, whose protection is deprecated",
                "ANSI X9 TR 31: kept for old devices only",
            );
        }
        if let Some(key_len) = key_len
            && let Err(error) = header.key_kind(key_len)
        {
            self.warn(error.to_string(), "ANSI X9.143 table 3");
        }
    }

    fn enveloped(&mut self, enveloped: &EnvelopedKeyBlock) {
        self.recipient = Some(Party::of(enveloped.recipient()));
        self.ke_algorithm = Some(enveloped.cipher().name());
        self.oaep_hash = Some(enveloped.oaep_hash().name());
        if enveloped.oaep_hash() == OaepHash::Sha1 {
            self.warn(
                "RSA-OAEP uses SHA-1",
                "TR-34 B.2.2.3: SHA-256; collisions do not break OAEP, but nothing new should use SHA-1",
            );
        }
        if enveloped.cipher() == ContentCipher::DesEde3Cbc {
            self.warn(
                "Ke is a TDEA key",
                "NIST SP 800-131A: not allowed for encryption after 2023; TR-34 allows it for TDEA keys",
            );
        }
        let iv = enveloped.encryption().iv();
        if iv.len() == 16 && iv[8..] == [0; 8] {
            self.warn(
                "the IV has 8 bytes, or ends in 8 zeros",
                "RFC 3565 4.1: 16 random bytes; as printed in TR-34 B.2.2.3.2",
            );
        }
    }

    /// The samples' profile writes the ciphertext where the corrected samples have it, and reads the first
    /// print too.
    fn first_print(&mut self, enveloped: &EnvelopedKeyBlock, profile: Profile, der: &[u8]) {
        let written = enveloped.to_der(profile).unwrap_or_default();
        let as_written = der
            .windows(written.len().max(1))
            .any(|window| window == written);
        if profile == Profile::X9_2019Samples && !as_written {
            self.warn(
                "the ciphertext stands in the algorithm identifier, as in the first print",
                "RFC 5652 6.1; the corrigendum of TR-34",
            );
        }
    }

    fn crl_if_any(&mut self, der: Option<&[u8]>, now: OffsetDateTime) {
        if let Some(der) = der {
            self.crl(der, now);
        }
    }

    fn crl(&mut self, der: &[u8], now: OffsetDateTime) {
        let crl = match Crl::from_der(der) {
            Ok(crl) => crl,
            Err(error) => return self.warn(error.to_string(), "RFC 5280 5.1"),
        };
        self.crl_number = crl.number().map(|number| number.0);
        if self.crl_number.is_none() {
            self.warn(
                "the revocation list has no number, so it cannot be told from an older one",
                "RFC 5280 5.2.3",
            );
        }
        if crl.next_update() < now {
            self.warn(
                format!(
                    "the revocation list is stale: a new one was due at {}",
                    rfc3339(crl.next_update())
                ),
                "RFC 5280 5.1.2.5",
            );
        }
        if crl.this_update() > now {
            self.warn(
                "the revocation list comes from the future",
                "RFC 5280 5.1.2.4",
            );
        }
        self.crl = Some(CrlSummary {
            issuer: name(crl.issuer().der()),
            this_update: rfc3339(crl.this_update()),
            next_update: rfc3339(crl.next_update()),
            age_seconds: (now - crl.this_update()).whole_seconds(),
            revoked: crl
                .revoked()
                .iter()
                .map(|serial| hex::encode_upper(serial.content()))
                .collect(),
        });
    }

    fn certificate(&mut self, der: &[u8], now: OffsetDateTime) {
        // What a certificate must be for this system is for the checks to say; here any is shown.
        let Ok(certificate) = x509_cert::Certificate::from_der(der) else {
            return self.warn("the certificate does not parse", "RFC 5280 4.1");
        };
        let tbs = certificate.tbs_certificate();
        let at = |time: x509_cert::time::Time| OffsetDateTime::UNIX_EPOCH + time.to_unix_duration();
        let (not_before, not_after) = (at(tbs.validity().not_before), at(tbs.validity().not_after));
        if !(not_before..=not_after).contains(&now) {
            self.warn(
                format!(
                    "the certificate holds from {} to {}, not now",
                    rfc3339(not_before),
                    rfc3339(not_after)
                ),
                "RFC 5280 4.1.2.5",
            );
        }
        self.certificates.push(CertificateSummary {
            subject: tbs.subject().to_string(),
            issuer: tbs.issuer().to_string(),
            serial: hex::encode_upper(tbs.serial_number().as_bytes()),
            not_before: rfc3339(not_before),
            not_after: rfc3339(not_after),
        });
    }
}

impl Party {
    /// Whom a token names.
    pub fn of(id: &IssuerAndSerial) -> Self {
        Self {
            issuer: name(id.issuer_der()),
            serial: hex::encode_upper(id.serial_bytes()),
        }
    }
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.serial, self.issuer)
    }
}

impl HeaderWords {
    /// A header, decoded.
    pub fn of(header: &Kbh) -> Self {
        Self {
            text: header.to_string(),
            usage: format!("{}: {}", header.usage(), header.usage_words()),
            algorithm: header.algorithm().to_string(),
            mode: format!("{}: {}", header.mode(), header.mode_words()),
            exportability: format!(
                "{}: {}",
                header.exportability(),
                header.exportability_words()
            ),
            optional_blocks: header.optional_blocks().iter().map(block_words).collect(),
        }
    }
}

fn block_words(block: &OptionalBlock) -> String {
    let (id, data) = (block.id(), block.data());
    match block.words() {
        "" => format!("{id}: {data}"),
        words => format!("{id}: {data}, {words}"),
    }
}

/// As in RFC 4514; the DER where it is no name, which no token of ours has.
fn name(der: &[u8]) -> String {
    Name::from_der(der).map_or_else(|_| hex::encode_upper(der), |name| name.to_string())
}

/// Whether these bytes are a SET OF in DER's order.
fn is_sorted_set(der: &[u8]) -> bool {
    let Ok(set) = der::asn1::AnyRef::from_der(der) else {
        return false;
    };
    let mut rest = set.value();
    let mut last: &[u8] = &[];
    while !rest.is_empty() {
        let Ok((_, behind)) = der::asn1::AnyRef::from_der_partial(rest) else {
            return false;
        };
        let element = &rest[..rest.len() - behind.len()];
        if element < last {
            return false;
        }
        (last, rest) = (element, behind);
    }
    true
}
