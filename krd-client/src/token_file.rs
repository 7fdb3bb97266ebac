//! Tokens that come as files, in whatever form; one-pass key tokens as PEM behind lines of plain text.

use std::fmt;

use hsm::{Kcv, KcvMethod};
use inspector::{Input, InputError};
use tr34::{Kbh, KeyAlgorithm};

use crate::{DeviceSerial, SlotName};

/// More characters than a host's identifiers have.
const MAX_DELIVERY_ID_LEN: usize = 64;

/// Why a file does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// In none of the forms.
    #[error("the file holds no token: {0}")]
    NoToken(#[from] InputError),
    /// A token without the lines that say what it is.
    #[error("the file has no line \"{0}: …\"")]
    Missing(Line),
    /// A line that stands there twice.
    #[error("the file has two lines \"{0}: …\"")]
    Twice(Line),
    /// A line with something else than it should have.
    #[error("the file's line \"{0}: …\" makes no sense")]
    Senseless(Line),
}

/// The lines in front of a one-pass key token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The terminal's serial number.
    Device,
    /// Where the key goes.
    Slot,
    /// Its version.
    KeyVersion,
    /// What the host calls the delivery.
    Delivery,
    /// Key block header.
    Header,
    /// Check value.
    Kcv,
}

impl Line {
    const fn name(self) -> &'static str {
        match self {
            Self::Device => "Device",
            Self::Slot => "Slot",
            Self::KeyVersion => "Key-Version",
            Self::Delivery => "Delivery",
            Self::Header => "Header",
            Self::Kcv => "KCV",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A one-pass key token with what its file says about it.
///
/// Nobody has signed those lines. The terminal holds them against the token where it can; the receipt,
/// which names delivery, slot and version, lets the host see the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnePassFile {
    /// Which terminal it is for.
    pub device: DeviceSerial,
    /// Where the key goes.
    pub slot: SlotName,
    /// Its version.
    pub key_version: u32,
    /// What the host calls the delivery.
    pub delivery_id: String,
    /// Key block header.
    pub header: Kbh,
    /// Check value.
    pub kcv: Kcv,
    /// `KT_KDH`, DER.
    pub kt_kdh: Vec<u8>,
}

impl OnePassFile {
    /// From the file's bytes.
    ///
    /// # Errors
    /// See [`TokenFileError`]; lines of other names are let pass.
    pub fn parse(bytes: &[u8]) -> Result<Self, TokenFileError> {
        let input = Input::read(bytes)?;
        let lines = Preamble(&input.preamble);
        let header: Kbh = lines.parse(Line::Header)?;
        Ok(Self {
            device: lines.parse(Line::Device)?,
            slot: lines.parse(Line::Slot)?,
            key_version: lines.parse(Line::KeyVersion)?,
            delivery_id: delivery_id(lines.text(Line::Delivery)?)
                .ok_or(TokenFileError::Senseless(Line::Delivery))?,
            kcv: kcv(lines.text(Line::Kcv)?, header.algorithm())
                .ok_or(TokenFileError::Senseless(Line::Kcv))?,
            header,
            kt_kdh: input.der,
        })
    }
}

/// The DER of a token from a file of any form.
///
/// # Errors
/// [`TokenFileError::NoToken`].
pub fn token_from_file(bytes: &[u8]) -> Result<Vec<u8>, TokenFileError> {
    Ok(Input::read(bytes)?.der)
}

/// It is kept in the token, which has little room.
fn delivery_id(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let sound = text.len() <= MAX_DELIVERY_ID_LEN && text.bytes().all(allowed);
    sound.then(|| text.to_owned())
}

/// As `kdhctl` prints it: digits, and behind them the method, which goes without saying for keys that
/// can be loaded.
fn kcv(text: &str, algorithm: KeyAlgorithm) -> Option<Kcv> {
    let digits = text.split_whitespace().next()?;
    let (method, name) = match algorithm {
        KeyAlgorithm::Aes => (KcvMethod::AesCmac, "(AES_CMAC)"),
        KeyAlgorithm::Tdea => (KcvMethod::TdeaEcb, "(TDEA_ECB)"),
        _ => return None,
    };
    if text != digits && text != format!("{digits} {name}") {
        return None;
    }
    Kcv::parse(method, digits).ok()
}

/// The lines of text.
struct Preamble<'f>(&'f str);

impl<'f> Preamble<'f> {
    fn text(&self, line: Line) -> Result<&'f str, TokenFileError> {
        let value = |text: &'f str| {
            let (name, value) = text.split_once(':')?;
            (name == line.name()).then_some(value.trim())
        };
        let mut found = self.0.lines().filter_map(value);
        match (found.next(), found.next()) {
            (None, _) => Err(TokenFileError::Missing(line)),
            (Some(_), Some(_)) => Err(TokenFileError::Twice(line)),
            (Some(""), None) => Err(TokenFileError::Senseless(line)),
            (Some(value), None) => Ok(value),
        }
    }

    fn parse<T: std::str::FromStr>(&self, line: Line) -> Result<T, TokenFileError> {
        let text = self.text(line)?;
        text.parse().map_err(|_| TokenFileError::Senseless(line))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const GOOD: &str = "\
Device: KRD-000001
Slot: tmk
Key-Version: 2
Delivery: 0198-7f
Header: D0000K0AB00E0000
KCV: AB12EF (AES_CMAC)

-----BEGIN CMS-----
MAMCAQE=
-----END CMS-----
";
    const TOKEN: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x01];

    #[test]
    fn a_good_file_reads() {
        let file = OnePassFile::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(file.device.as_str(), "KRD-000001");
        assert_eq!((file.slot.as_str(), file.key_version), ("tmk", 2));
        assert_eq!(file.delivery_id, "0198-7f");
        assert_eq!(file.kcv.to_string(), "AB12EF");
        assert_eq!(file.kcv.method(), KcvMethod::AesCmac);
        assert_eq!(file.kt_kdh, TOKEN);
        let same = [
            GOOD.replace(" (AES_CMAC)", ""),
            GOOD.replace('\n', "\r\n"),
            format!("A key for a terminal\nValid: today\n{GOOD}"),
        ];
        for text in same {
            assert_eq!(
                OnePassFile::parse(text.as_bytes()),
                Ok(file.clone()),
                "{text}"
            );
        }
        let tdea = GOOD.replace("K0AB", "K0TB").replace("AES_CMAC", "TDEA_ECB");
        let kcv = OnePassFile::parse(tdea.as_bytes()).unwrap().kcv;
        assert_eq!(kcv.method(), KcvMethod::TdeaEcb);
    }

    #[test]
    fn each_file_is_refused_for_its_own_reason() {
        use Line::{Delivery, Device, Header, Kcv, KeyVersion, Slot};
        use TokenFileError::{Missing, Senseless, Twice};
        let cases = [
            ("Device: KRD-000001\n", "", Missing(Device)),
            ("Slot: tmk\n", "", Missing(Slot)),
            ("Key-Version: 2\n", "", Missing(KeyVersion)),
            ("Delivery: 0198-7f\n", "", Missing(Delivery)),
            ("Header:", "header:", Missing(Header)),
            ("KCV:", "KCV ", Missing(Kcv)),
            ("Slot: tmk\n", "Slot: tmk\nSlot: pin\n", Twice(Slot)),
            ("Slot: tmk\n", "Slot: tmk\nSlot: tmk\n", Twice(Slot)),
            ("KRD-000001", "krd 1", Senseless(Device)),
            ("tmk", "TMK", Senseless(Slot)),
            ("tmk", "", Senseless(Slot)),
            ("Version: 2", "Version: -2", Senseless(KeyVersion)),
            ("Version: 2", "Version: 4294967296", Senseless(KeyVersion)),
            ("0198-7f", "", Senseless(Delivery)),
            ("0198-7f", "0198 7f", Senseless(Delivery)),
            ("0198-7f", &"7".repeat(65), Senseless(Delivery)),
            ("D0000K0AB00E0000", "D0000K0AB00E000", Senseless(Header)),
            ("D0000K0AB00E0000", "D0000M7HG00E0000", Senseless(Kcv)),
            ("AB12EF", "AB12", Senseless(Kcv)),
            ("AB12EF", "AB12EG", Senseless(Kcv)),
            ("AES_CMAC", "TDEA_ECB", Senseless(Kcv)),
            ("(AES_CMAC)", "(AES_CMAC) or so", Senseless(Kcv)),
        ];
        for (good, bad, error) in cases {
            let text = GOOD.replace(good, bad);
            assert_ne!(text, GOOD);
            assert_eq!(OnePassFile::parse(text.as_bytes()), Err(error), "{text}");
        }
        let without_lines = OnePassFile::parse(&TOKEN);
        assert_eq!(without_lines, Err(Missing(Header)), "without lines");
        for (good, bad) in [
            ("-----END CMS-----", ""),
            ("MAMCAQE=", "MAMCAQE"),
            ("-----END CMS", "-----END CERTIFICATE"),
        ] {
            let error = OnePassFile::parse(GOOD.replace(good, bad).as_bytes()).unwrap_err();
            assert!(matches!(error, TokenFileError::NoToken(_)), "{error}");
        }
    }

    /// What stands behind the token must not speak for it.
    #[test]
    fn lines_behind_the_token_are_not_read() {
        let text = format!("{}Slot: pin\n", GOOD.replace("Slot: tmk\n", ""));
        assert!(OnePassFile::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn a_token_alone_comes_in_every_form() {
        let (_, pem) = GOOD.split_once("\n\n").unwrap();
        let forms = [
            &TOKEN[..],
            GOOD.as_bytes(),
            pem.as_bytes(),
            b"MAMCAQE=",
            b"30 03 02 01 01",
        ];
        for file in forms {
            assert_eq!(token_from_file(file).unwrap(), TOKEN);
        }
        for file in [&b""[..], b"no token", &[0x04, 0x00]] {
            token_from_file(file).unwrap_err();
        }
    }
}
