//! What crossed between a program and its PKCS#11 module, read from the log of `pkcs11-spy`.
//!
//! The spy announces each byte string with its length before it prints it. The reader insists on as
//! many bytes as were announced, so a form of the log that it does not understand is an error and
//! never a gap.

use std::{fmt, iter::Peekable, str::Lines};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where it begins in the log.
    pub line: usize,
    /// `C_Sign`, for example.
    pub function: String,
    /// What crossed, in order.
    pub fields: Vec<Field>,
    /// `CKR_OK`, for example.
    pub returned: String,
}

/// One argument or result of a call, or one attribute of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Into the module or out of it.
    pub direction: Direction,
    /// `hKey`, `CKA_VALUE`, …
    pub name: String,
    /// What it was.
    pub value: Value,
}

/// Which way a value crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the module.
    In,
    /// Out of it.
    Out,
}

/// What crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, handle, flag or name, as the spy writes it.
    Text(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// Room for a byte string, or a question for its length.
    Room,
}

/// A log that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the spy's log: {}", self.line, self.what)
    }
}

impl std::error::Error for Unreadable {}

impl Call {
    /// Each text that came out under this name.
    pub fn texts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter_map(move |field| match &field.value {
                Value::Text(text) if field.direction == Direction::Out && field.name == name => {
                    Some(&**text)
                }
                _ => None,
            })
    }

    /// The text that crossed under this name.
    pub fn text(&self, direction: Direction, name: &str) -> Option<&str> {
        self.fields.iter().find_map(|field| match &field.value {
            Value::Text(text) if field.direction == direction && field.name == name => {
                Some(&**text)
            }
            _ => None,
        })
    }

    /// Every byte string that crossed, with its name.
    pub fn byte_strings(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().filter_map(|field| match &field.value {
            Value::Bytes(bytes) => Some((&*field.name, &**bytes)),
            Value::Text(_) | Value::Room => None,
        })
    }
}

/// Reads a log.
///
/// # Errors
/// It holds no call, a call that has no end, or a byte string shorter than it was announced.
pub fn parse_log(log: &str) -> Result<Vec<Call>, Unreadable> {
    Reader {
        lines: log.lines().peekable(),
        line: 0,
    }
    .calls()
}

struct Reader<'a> {
    lines: Peekable<Lines<'a>>,
    line: usize,
}

impl<'a> Reader<'a> {
    fn calls(mut self) -> Result<Vec<Call>, Unreadable> {
        let mut calls = Vec::new();
        while let Some(line) = self.next() {
            if let Some(function) = beginning(line) {
                calls.push(self.call(function)?);
            }
        }
        if calls.is_empty() {
            return Err(self.unreadable("no calls at all"));
        }
        Ok(calls)
    }

    fn call(&mut self, function: &str) -> Result<Call, Unreadable> {
        let mut call = Call {
            line: self.line,
            function: function.to_owned(),
            fields: Vec::new(),
            returned: String::new(),
        };
        let mut direction = Direction::In;
        while let Some(line) = self.next() {
            if let Some(returned) = line.strip_prefix("Returned:") {
                call.returned = returned
                    .split_whitespace()
                    .nth(1)
                    .unwrap_or_default()
                    .into();
                return Ok(call);
            }
            if beginning(line).is_some() {
                return Err(self.unreadable("a call begins inside another"));
            }
            let line = if let Some(rest) = line.strip_prefix("[in] ") {
                direction = Direction::In;
                rest
            } else if let Some(rest) = line.strip_prefix("[out] ") {
                direction = Direction::Out;
                rest
            } else {
                line
            };
            // Reading attributes shows room for them first, which holds nothing yet.
            let room = direction == Direction::In && function == "C_GetAttributeValue";
            if let Some((name, value)) = self.field(line, room)? {
                call.fields.push(Field {
                    direction,
                    name: name.to_owned(),
                    value,
                });
            }
        }
        Err(self.unreadable("the last call has no end"))
    }

    /// One field, with the lines of its bytes; `None` for a line that holds no value.
    fn field(&mut self, line: &'a str, room: bool) -> Result<Option<(&'a str, Value)>, Unreadable> {
        if is_bytes(line) {
            return Err(self.unreadable("bytes that were not announced"));
        }
        if let Some((name, announced)) = announcement(line) {
            return Ok(Some(match announced {
                Some(len) if !room => (name, Value::Bytes(self.bytes(len)?)),
                _ => (name, Value::Room),
            }));
        }
        if let Some((name, text)) = line.split_once(" = ") {
            let name = name.trim().trim_start_matches('*');
            return Ok(Some((name, Value::Text(text.trim().to_owned()))));
        }
        // An object that was found, or an attribute whose value the spy has a word for.
        let mut words = line.split_whitespace();
        Ok(match (words.next(), words.next()) {
            (Some(name), Some(word)) if name.starts_with("CKA_") || name == FOUND => {
                Some((name, Value::Text(word.to_owned())))
            }
            _ => None,
        })
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let line = self.lines.peek().copied().unwrap_or_default();
            if let Some(row) = dump_row(line) {
                bytes.extend(row);
                self.next();
            } else if let Some(row) = print_row(line) {
                bytes.extend(row);
                self.next();
                // The same again as characters.
                self.next();
            } else {
                return Err(self.unreadable("fewer bytes than announced"));
            }
        }
        if bytes.len() > len {
            return Err(self.unreadable("more bytes than announced"));
        }
        Ok(bytes)
    }

    fn next(&mut self) -> Option<&'a str> {
        self.line += 1;
        self.lines.next()
    }

    fn unreadable(&self, what: &'static str) -> Unreadable {
        Unreadable {
            line: self.line,
            what,
        }
    }
}

/// What an object that was found is printed as, with its handle: `Object 0x2 matches`.
pub const FOUND: &str = "Object";

/// `12: C_Sign`
fn beginning(line: &str) -> Option<&str> {
    let (number, function) = line.split_once(": ")?;
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (numbered && function.starts_with("C_")).then_some(function.trim())
}

/// `pData[ulDataLen] 00007ffd46b740d0 / 100`: a name, and the length where there are bytes.
fn announcement(line: &str) -> Option<(&str, Option<usize>)> {
    let (before, len) = line.trim_end().rsplit_once(" / ")?;
    let (name, pointer) = before.trim_end().rsplit_once(' ')?;
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if pointer.len() < 8 || !hex(pointer) {
        return None;
    }
    let name = name.split('[').next().unwrap_or(name).trim();
    let nowhere = pointer.bytes().all(|byte| byte == b'0');
    // -1 stands for a value that is not given.
    let len: i64 = len.parse().ok()?;
    let len = usize::try_from(len).ok().filter(|len| *len > 0 && !nowhere);
    Some((name, len))
}

fn is_bytes(line: &str) -> bool {
    dump_row(line).is_some()
}

/// `    00000010  8E 6B … 12  .k…`: an offset, up to 16 bytes, the same as characters.
fn dump_row(line: &str) -> Option<Vec<u8>> {
    const HEX_COLUMNS: usize = 16 * 3;
    let row = line.strip_prefix("    ")?;
    let (offset, row) = row.split_at_checked(8)?;
    if !offset.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let row = row.strip_prefix("  ")?;
    let row = row.get(..HEX_COLUMNS.min(row.len()))?;
    let bytes: Option<Vec<u8>> = row.split_whitespace().map(hex_byte).collect();
    bytes.filter(|bytes| !bytes.is_empty())
}

/// `    6B646820 31`: up to 32 bytes in groups of four, as labels are printed.
fn print_row(line: &str) -> Option<Vec<u8>> {
    let row = line.strip_prefix("    ")?.replace(' ', "");
    hex::decode(row).ok().filter(|bytes| !bytes.is_empty())
}

fn hex_byte(text: &str) -> Option<u8> {
    (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const LOG: &str = "

*************** OpenSC PKCS#11 spy *****************
Loaded: \"/usr/lib/softhsm/libsofthsm2.so\"

0: C_Initialize
2026-01-01 00:00:00.000
[in] pInitArgs = (nil)
Returned:  0 CKR_OK

1: C_GenerateKey
2026-01-01 00:00:00.000
[in] hSession = 0x1
[in] pMechanism->type = CKM_AES_KEY_GEN              
[in] pMechanism->pParameter[ulParameterLen] NULL [size : 0x0 (0)]
[in] pTemplate[3]: 
    CKA_CLASS             CKO_SECRET_KEY       
    CKA_VALUE_LEN         00007ffd702cd2a8 / 8
    00000000  10 00 00 00 00 00 00 00                          ........        
    CKA_LABEL             00007ffd702cfa5c / 5
    41424344 45
     A B C D  E
[out] hKey = 0x2
Returned:  0 CKR_OK

2: C_GetAttributeValue
2026-01-01 00:00:00.000
[in] hSession = 0x1
[in] hObject = 0x2
[in] pTemplate[2]: 
    CKA_ID                00005559dda4c140 / 4
    CKA_VALUE             0000000000000000 / 0
[out] pTemplate[2]: 
    CKA_ID                00005559dda4c140 / 4
    C7A85E22
     . . ^ \"
    CKA_VALUE             0000000000000000 / -1
Returned:  17 CKR_ATTRIBUTE_SENSITIVE

3: C_Encrypt
2026-01-01 00:00:00.000
[in] hSession = 0x1
[in] pData[ulDataLen] 00007ffd46b740d0 / 18
    00000000  C0 48 F9 72 1C C7 41 27 58 16 06 A3 66 F4 7F D8  .H.r..A'X...f..
    00000010  BC 60                                            .`              
[out] pEncryptedData[*pulEncryptedDataLen] 0000000000000000 / 32
Returned:  0 CKR_OK
";

    #[test]
    fn calls_and_their_values_are_read() {
        let calls = parse_log(LOG).unwrap();
        let functions: Vec<_> = calls.iter().map(|call| &*call.function).collect();
        let expected = [
            "C_Initialize",
            "C_GenerateKey",
            "C_GetAttributeValue",
            "C_Encrypt",
        ];
        assert_eq!(functions, expected);
        assert_eq!(calls[1].text(Direction::Out, "hKey"), Some("0x2"));
        assert_eq!(
            calls[1].text(Direction::In, "CKA_CLASS"),
            Some("CKO_SECRET_KEY")
        );
        let strings: Vec<_> = calls[1].byte_strings().collect();
        assert_eq!(strings[1], ("CKA_LABEL", &b"ABCDE"[..]));
        let read: Vec<_> = calls[2].byte_strings().collect();
        assert_eq!(read, [("CKA_ID", &[0xc7, 0xa8, 0x5e, 0x22][..])]);
        assert_eq!(calls[2].returned, "CKR_ATTRIBUTE_SENSITIVE");
        let data: Vec<_> = calls[3].byte_strings().collect();
        assert_eq!(data[0].0, "pData");
        assert_eq!(data[0].1.len(), 18);
        assert_eq!(&data[0].1[15..], [0xd8, 0xbc, 0x60]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let cases = [
            ("an empty log", String::new(), "no calls at all"),
            (
                "a row is missing",
                LOG.replace("    00000010  BC", "    # BC"),
                "fewer bytes than announced",
            ),
            (
                "a label is missing",
                LOG.replace("    41424344 45\n", ""),
                "fewer bytes than announced",
            ),
            (
                "longer than announced",
                LOG.replace("/ 18", "/ 17"),
                "more bytes than announced",
            ),
            (
                "rows follow",
                LOG.replace("/ 18", "/ 16"),
                "bytes that were not announced",
            ),
            (
                "cut off",
                LOG.trim_end()
                    .trim_end_matches("Returned:  0 CKR_OK")
                    .to_owned(),
                "the last call has no end",
            ),
            (
                "two threads at once",
                LOG.replacen("Returned:  0 CKR_OK\n", "", 1),
                "a call begins inside another",
            ),
        ];
        for (case, log, what) in cases {
            assert_eq!(parse_log(&log).unwrap_err().what, what, "{case}");
        }
    }
}
