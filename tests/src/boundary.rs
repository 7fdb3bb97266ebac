//! That no key crossed between a program and its PKCS#11 module.

use std::{
    collections::{BTreeSet, HashSet},
    fmt, fs,
    path::PathBuf,
};

use anyhow::Result;

use crate::spy::{Call, Direction, FOUND};

/// Keys are looked for in pieces of this length, so that a key in parts, or in another order, is
/// found too.
const PIECE_LEN: usize = 8;

/// A key that must not have crossed.
pub struct Secret {
    name: String,
    bytes: Vec<u8>,
}

impl Secret {
    /// Of 8 bytes at least.
    ///
    /// # Panics
    /// It is shorter: it would be found by chance.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= PIECE_LEN, "{name} is too short to look for");
        Self {
            name: name.to_owned(),
            bytes: bytes.to_vec(),
        }
    }

    /// Each 8 bytes of it, forwards and backwards, and with every bit turned round.
    fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        self.bytes.chunks_exact(PIECE_LEN).flat_map(|piece| {
            let backwards: Vec<u8> = piece.iter().rev().copied().collect();
            let forms = [piece.to_vec(), backwards];
            let turned = forms
                .each_ref()
                .map(|form| form.iter().map(|byte| !byte).collect());
            forms.into_iter().chain(turned)
        })
    }
}

/// Finds secrets in much.
struct Search<'s> {
    /// Pieces by their first two bytes, and of which secret each is.
    pieces: Vec<Vec<(Vec<u8>, usize)>>,
    secrets: &'s [Secret],
}

impl<'s> Search<'s> {
    /// For the secrets in this form.
    fn new(secrets: &'s [Secret], form: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        let mut pieces = vec![Vec::new(); 1 << 16];
        for (index, secret) in secrets.iter().enumerate() {
            for piece in secret.pieces().map(&form) {
                pieces[beginning(&piece)].push((piece, index));
            }
        }
        Self { pieces, secrets }
    }

    /// Those of which 8 or more bytes stand there.
    fn in_bytes(&self, bytes: &[u8]) -> Vec<&'s Secret> {
        let mut found = BTreeSet::new();
        for (at, two) in bytes.windows(2).enumerate() {
            let pieces = &self.pieces[beginning(two)];
            let here = pieces
                .iter()
                .filter(|(piece, _)| bytes[at..].starts_with(piece));
            found.extend(here.map(|(_, index)| *index));
        }
        found.iter().map(|index| &self.secrets[*index]).collect()
    }
}

fn beginning(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

/// Something that must not have happened, and where in the log it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The line.
    pub line: usize,
    /// What.
    pub kind: BreachKind,
}

/// What must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreachKind {
    /// At least 8 bytes of a key crossed.
    Crossed {
        /// Which key.
        secret: String,
        /// In which call.
        function: String,
        /// In which of its values.
        field: String,
    },
    /// The value of a key was asked for.
    ValueRead,
    /// A key that was generated in the module opened something.
    GeneratedKeyOpens {
        /// In which call.
        function: String,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            BreachKind::Crossed {
                secret,
                function,
                field,
            } => write!(f, "{secret} crossed in {function}, {field}"),
            BreachKind::ValueRead => write!(f, "CKA_VALUE was asked for"),
            BreachKind::GeneratedKeyOpens { function } => {
                write!(f, "a generated key was used in {function}")
            }
        }
    }
}

/// Every value in which 8 or more bytes of one of the secrets stand.
pub fn crossings(calls: &[Call], secrets: &[Secret]) -> Vec<Breach> {
    let search = Search::new(secrets, |piece| piece);
    let mut found = Vec::new();
    for call in calls {
        for (field, bytes) in call.byte_strings() {
            for secret in search.in_bytes(bytes) {
                found.push(Breach {
                    line: call.line,
                    kind: BreachKind::Crossed {
                        secret: secret.name.clone(),
                        function: call.function.clone(),
                        field: field.to_owned(),
                    },
                });
            }
        }
    }
    found
}

/// Every question for `CKA_VALUE`, answered or not, but of a data object, which was looked for as one.
pub fn value_reads(calls: &[Call]) -> Vec<Breach> {
    let mut looking_for_data = HashSet::new();
    let mut data = HashSet::new();
    let mut found = Vec::new();
    for call in calls {
        let session = call.text(Direction::In, "hSession");
        match &*call.function {
            "C_FindObjectsInit" => {
                if call.text(Direction::In, "CKA_CLASS") == Some("CKO_DATA") {
                    looking_for_data.extend(session);
                } else {
                    looking_for_data.retain(|looking| Some(*looking) != session);
                }
            }
            "C_FindObjects" if session.is_some_and(|it| looking_for_data.contains(it)) => {
                data.extend(call.texts(FOUND));
            }
            // A module may give the handle to a key now.
            "C_DestroyObject" => {
                data.retain(|object| Some(*object) != call.text(Direction::In, "hObject"));
            }
            "C_GetAttributeValue" if call.fields.iter().any(|it| it.name == "CKA_VALUE") => {
                let object = call.text(Direction::In, "hObject");
                if object.is_none_or(|object| !data.contains(object)) {
                    found.push(Breach {
                        line: call.line,
                        kind: BreachKind::ValueRead,
                    });
                }
            }
            _ => {}
        }
    }
    found
}

/// Each file in these folders in which 8 or more bytes of one of the secrets stand, as they are or in hexadecimal
/// digits, and of which one. The spy's logs are for [`crossings`].
///
/// # Errors
/// A folder or file cannot be read.
pub fn files_with(folders: &[PathBuf], secrets: &[Secret]) -> Result<Vec<(PathBuf, String)>> {
    let plain = Search::new(secrets, |piece| piece);
    let digits = Search::new(secrets, |piece| hex::encode(piece).into_bytes());
    let mut found = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let is_spys = entry.file_name().to_string_lossy().starts_with("spy-");
            if is_spys || !entry.file_type()?.is_file() {
                continue;
            }
            let mut bytes = fs::read(entry.path())?;
            let mut held = plain.in_bytes(&bytes);
            bytes.make_ascii_lowercase();
            held.extend(digits.in_bytes(&bytes));
            found.extend(
                held.iter()
                    .map(|secret| (entry.path(), secret.name.clone())),
            );
        }
    }
    Ok(found)
}

/// The functions that storage keys were used in, which are known by their labels.
pub fn uses_of_storage_keys(calls: &[Call]) -> BTreeSet<&str> {
    let mut looking_for = HashSet::new();
    let mut storage = HashSet::new();
    let mut uses = BTreeSet::new();
    for call in calls {
        let session = call.text(Direction::In, "hSession");
        match &*call.function {
            "C_GenerateKey" if is_about_storage_key(call) => {
                storage.extend(call.text(Direction::Out, "hKey"));
            }
            "C_FindObjectsInit" => {
                looking_for.retain(|looking| Some(*looking) != session);
                if is_about_storage_key(call) {
                    looking_for.extend(session);
                }
            }
            "C_FindObjects" if session.is_some_and(|it| looking_for.contains(it)) => {
                storage.extend(call.texts(FOUND));
            }
            // A module may give the handle to another key now.
            "C_DestroyObject" if call.returned == "CKR_OK" => {
                storage.retain(|key| Some(*key) != call.text(Direction::In, "hObject"));
            }
            function => {
                let keys = ["hKey", "hBaseKey", "hWrappingKey", "hUnwrappingKey"];
                let mut keys = keys.map(|name| call.text(Direction::In, name)).into_iter();
                if keys.any(|key| key.is_some_and(|key| storage.contains(key))) {
                    uses.insert(function);
                }
            }
        }
    }
    uses
}

/// Whether one is made or looked for.
fn is_about_storage_key(call: &Call) -> bool {
    let mut fields = call.byte_strings();
    fields.any(|(name, label)| name == "CKA_LABEL" && label.starts_with(b"ksk."))
}

/// Every use of a key from `C_GenerateKey` to decrypt or to unwrap. On a host that is Ke, which only
/// the terminal may open. Storage keys unwrap too: by AES key wrap, and what comes out can be read no more than before.
pub fn generated_keys_that_open(calls: &[Call]) -> Vec<Breach> {
    let mut generated = HashSet::new();
    let mut found = Vec::new();
    for call in calls {
        let key = match &*call.function {
            "C_GenerateKey" => {
                generated.extend(call.text(Direction::Out, "hKey"));
                continue;
            }
            // A module may give the handle to another key now.
            "C_DestroyObject" if call.returned == "CKR_OK" => {
                if let Some(handle) = call.text(Direction::In, "hObject") {
                    generated.remove(handle);
                }
                continue;
            }
            "C_DecryptInit" => call.text(Direction::In, "hKey"),
            "C_UnwrapKey" if is_of_storage(call) => continue,
            "C_UnwrapKey" => call.text(Direction::In, "hUnwrappingKey"),
            _ => continue,
        };
        if key.is_none_or(|handle| generated.contains(handle)) {
            found.push(Breach {
                line: call.line,
                kind: BreachKind::GeneratedKeyOpens {
                    function: call.function.clone(),
                },
            });
        }
    }
    found
}

fn is_of_storage(unwrap: &Call) -> bool {
    let said = |name, what| unwrap.text(Direction::In, name) == Some(what);
    said("pMechanism->type", "CKM_AES_KEY_WRAP") && said("CKA_SENSITIVE", "True")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::spy::{Field, Value, parse_log};

    const KN: [u8; 16] = *b"\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x01";

    fn call(function: &str, fields: &[(Direction, &str, Value)]) -> Call {
        Call {
            line: 7,
            function: function.to_owned(),
            fields: fields
                .iter()
                .map(|(direction, name, value)| Field {
                    direction: *direction,
                    name: (*name).to_owned(),
                    value: value.clone(),
                })
                .collect(),
            returned: "CKR_OK".to_owned(),
        }
    }

    fn bytes(field: &str, bytes: &[u8]) -> Call {
        let value = Value::Bytes(bytes.to_vec());
        call("C_Encrypt", &[(Direction::In, field, value)])
    }

    fn key(function: &str, direction: Direction, name: &str, handle: &str) -> Call {
        call(
            function,
            &[(direction, name, Value::Text(handle.to_owned()))],
        )
    }

    #[test]
    fn a_key_is_found_in_whatever_form_it_crosses() {
        let secrets = [Secret::new("Kn", &KN)];
        let swapped = [&KN[8..], &KN[..8]].concat();
        let backwards: Vec<u8> = KN.iter().rev().copied().collect();
        let inside = [b"prefix".as_slice(), &KN, b"suffix"].concat();
        let turned = KN.map(|byte| !byte);
        let cases: [(&str, &[u8]); 7] = [
            ("every bit turned round", &turned),
            ("whole", &KN),
            ("inside of something else", &inside),
            ("its first half", &KN[..8]),
            ("its second half", &KN[8..]),
            ("its halves swapped", &swapped),
            ("backwards", &backwards),
        ];
        for (case, crossed) in cases {
            let found = crossings(&[bytes("pData", crossed)], &secrets);
            assert_eq!(found.len(), 1, "{case}");
            assert_eq!(
                found[0].to_string(),
                "line 7: Kn crossed in C_Encrypt, pData"
            );
        }
        for (case, crossed) in [("seven bytes of it", &KN[..7]), ("nothing", &[])] {
            assert_eq!(
                crossings(&[bytes("pData", crossed)], &secrets),
                [],
                "{case}"
            );
        }
    }

    #[test]
    fn a_key_is_found_in_a_doctored_log() {
        let log = |value: &str| {
            format!(
                "3: C_GetAttributeValue\n[in] hObject = 0x2\n[in] pTemplate[1]: \n    CKA_ID   \
                 00005559dda4c140 / 16\n[out] pTemplate[1]: \n    CKA_ID   00005559dda4c140 / 16\n    \
                 00000000  {value}  ................\nReturned:  0 CKR_OK\n"
            )
        };
        let row = |bytes: &[u8]| {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X} ")).collect();
            hex.concat()
        };
        let secrets = [Secret::new("Kn", &KN)];
        let clean = parse_log(&log(&row(&[0; 16]))).unwrap();
        assert_eq!(crossings(&clean, &secrets), []);
        let doctored = parse_log(&log(&row(&KN))).unwrap();
        assert_eq!(crossings(&doctored, &secrets).len(), 1);
    }

    #[test]
    fn asking_for_a_value_is_found_even_if_it_is_refused() {
        let asked = call(
            "C_GetAttributeValue",
            &[(Direction::In, "CKA_VALUE", Value::Room)],
        );
        assert_eq!(value_reads(&[asked]).len(), 1);
        let other = call(
            "C_GetAttributeValue",
            &[(Direction::In, "CKA_ID", Value::Room)],
        );
        let written = call(
            "C_CreateObject",
            &[(Direction::In, "CKA_VALUE", Value::Bytes(vec![1]))],
        );
        assert_eq!(value_reads(&[other, written]), []);
    }

    #[test]
    fn only_the_value_of_what_was_found_as_a_data_object_may_be_asked_for() {
        let text = |text: &str| Value::Text(text.to_owned());
        let search = |session: &str, class: Option<&str>| {
            let session = (Direction::In, "hSession", text(session));
            let class = class.map(|class| (Direction::In, "CKA_CLASS", text(class)));
            let fields: Vec<_> = [session].into_iter().chain(class).collect();
            call("C_FindObjectsInit", &fields)
        };
        let finds = |session: &str| {
            let session = (Direction::In, "hSession", text(session));
            let found = |handle| (Direction::Out, FOUND, text(handle));
            call("C_FindObjects", &[session, found("0x2"), found("0x3")])
        };
        let asked = |handle: &str| {
            let object = (Direction::In, "hObject", text(handle));
            let value = (Direction::In, "CKA_VALUE", Value::Room);
            call("C_GetAttributeValue", &[object, value])
        };
        let data = || search("0x1", Some("CKO_DATA"));
        let destroyed = key("C_DestroyObject", Direction::In, "hObject", "0x3");
        for (case, calls, breaches) in [
            (
                "data",
                vec![data(), finds("0x1"), asked("0x2"), asked("0x3")],
                0,
            ),
            (
                "another object",
                vec![data(), finds("0x1"), asked("0x4")],
                1,
            ),
            (
                "before it is found",
                vec![data(), asked("0x2"), finds("0x1")],
                1,
            ),
            (
                "keys",
                vec![
                    search("0x1", Some("CKO_SECRET_KEY")),
                    finds("0x1"),
                    asked("0x2"),
                ],
                1,
            ),
            (
                "of any class",
                vec![search("0x1", None), finds("0x1"), asked("0x2")],
                1,
            ),
            (
                "in another session",
                vec![data(), finds("0x5"), asked("0x2")],
                1,
            ),
            (
                "keys after data",
                vec![data(), search("0x1", None), finds("0x1"), asked("0x2")],
                1,
            ),
            (
                "its handle went to a key",
                vec![data(), finds("0x1"), destroyed, asked("0x2"), asked("0x3")],
                1,
            ),
        ] {
            assert_eq!(value_reads(&calls).len(), breaches, "{case}");
        }
    }

    #[test]
    fn a_generated_key_that_opens_is_found() {
        let made = key("C_GenerateKey", Direction::Out, "hKey", "0x5");
        let decrypts = key("C_DecryptInit", Direction::In, "hKey", "0x5");
        let unwraps = key("C_UnwrapKey", Direction::In, "hUnwrappingKey", "0x5");
        let other = key("C_DecryptInit", Direction::In, "hKey", "0x6");
        let encrypts = key("C_EncryptInit", Direction::In, "hKey", "0x5");
        let stored = |mechanism: &str, sensitive: &str| {
            let text = |name, text: &str| (Direction::In, name, Value::Text(text.to_owned()));
            let unwrapping = text("hUnwrappingKey", "0x5");
            let mechanism = text("pMechanism->type", mechanism);
            call(
                "C_UnwrapKey",
                &[unwrapping, mechanism, text("CKA_SENSITIVE", sensitive)],
            )
        };
        let destroyed = key("C_DestroyObject", Direction::In, "hObject", "0x5");
        let nameless = call("C_DecryptInit", &[]);
        let cases = [
            ("decrypts", vec![made.clone(), decrypts.clone()], 1),
            ("unwraps", vec![made.clone(), unwraps], 1),
            ("no handle in the log", vec![nameless], 1),
            (
                "unwraps a stored key",
                vec![made.clone(), stored("CKM_AES_KEY_WRAP", "True")],
                0,
            ),
            (
                "for everybody to read",
                vec![made.clone(), stored("CKM_AES_KEY_WRAP", "False")],
                1,
            ),
            (
                "by another mechanism",
                vec![made.clone(), stored("CKM_AES_CBC_PAD", "True")],
                1,
            ),
            ("another key", vec![made.clone(), other], 0),
            ("only encrypts", vec![made.clone(), encrypts], 0),
            (
                "its handle went to another key",
                vec![made, destroyed, decrypts],
                0,
            ),
        ];
        for (case, calls, breaches) in cases {
            assert_eq!(generated_keys_that_open(&calls).len(), breaches, "{case}");
        }
    }

    #[test]
    fn what_a_storage_key_is_used_for_is_found() {
        let text = |name, text: &str| (Direction::In, name, Value::Text(text.to_owned()));
        let label = |label: &str| {
            let label = Value::Bytes(label.as_bytes().to_vec());
            (Direction::In, "CKA_LABEL", label)
        };
        let out = |name, handle: &str| (Direction::Out, name, Value::Text(handle.to_owned()));
        let made = |name: &str| call("C_GenerateKey", &[label(name), out("hKey", "0x5")]);
        let session = || text("hSession", "0x1");
        let search = |name: &str| call("C_FindObjectsInit", &[session(), label(name)]);
        let finds = || call("C_FindObjects", &[session(), out(FOUND, "0x5")]);
        let decrypts = || key("C_DecryptInit", Direction::In, "hKey", "0x5");
        let derives = key("C_DeriveKey", Direction::In, "hBaseKey", "0x5");
        let wraps = key("C_WrapKey", Direction::In, "hWrappingKey", "0x5");
        let wrapped = key("C_WrapKey", Direction::In, "hKey", "0x5");
        let unwraps = key("C_UnwrapKey", Direction::In, "hUnwrappingKey", "0x5");
        let destroyed = key("C_DestroyObject", Direction::In, "hObject", "0x5");
        let (decrypt, wrap) = (Some("C_DecryptInit"), Some("C_WrapKey"));
        let cases = [
            ("decrypts", vec![made("ksk.1"), decrypts()], decrypt),
            ("derives", vec![made("ksk.1"), derives], Some("C_DeriveKey")),
            ("wraps", vec![made("ksk.1"), wraps], wrap),
            ("is wrapped", vec![made("ksk.1"), wrapped], wrap),
            ("unwraps", vec![made("ksk.1"), unwraps], Some("C_UnwrapKey")),
            (
                "was found",
                vec![search("ksk.1"), finds(), decrypts()],
                decrypt,
            ),
            ("another key", vec![made("ksm.1"), decrypts()], None),
            (
                "another was found",
                vec![search("ksm.1"), finds(), decrypts()],
                None,
            ),
            (
                "looked for before",
                vec![search("ksk.1"), search("kn.1"), finds(), decrypts()],
                None,
            ),
            (
                "its handle went to another key",
                vec![made("ksk.1"), destroyed, decrypts()],
                None,
            ),
        ];
        for (case, calls, used) in cases {
            let uses: Vec<_> = uses_of_storage_keys(&calls).into_iter().collect();
            assert_eq!(uses, used.into_iter().collect::<Vec<_>>(), "{case}");
        }
    }

    #[test]
    fn a_key_is_found_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let secrets = [Secret::new("Kn", &KN)];
        let in_digits = hex::encode_upper(&KN[8..]);
        let cases: [(&str, &[u8], usize); 4] = [
            ("as it is", &KN, 1),
            ("in digits", in_digits.as_bytes(), 1),
            ("too little of it", &KN[..7], 0),
            ("nothing", b"", 0),
        ];
        for (case, content, found) in cases {
            fs::write(&file, [b"before ", content, b" after"].concat()).unwrap();
            let folders = [folder.path().to_owned()];
            assert_eq!(
                files_with(&folders, &secrets).unwrap().len(),
                found,
                "{case}"
            );
        }
    }
}
