//! How a token may be written in a file.

use inspector::{Form, Input, InputError, MAX_INPUT_LEN};

use crate::tokens::key_token;

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

fn lines(text: &str, len: usize, end: &str) -> String {
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(len)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    lines.join(end)
}

fn pem(token: &[u8], end: &str) -> String {
    let body = lines(&base64(token), 64, end);
    format!("-----BEGIN CMS-----{end}{body}{end}-----END CMS-----{end}")
}

#[test]
fn every_form_is_the_same_token() {
    let token = key_token();
    let digits = hex::encode(&token);
    let forms: Vec<(&str, Vec<u8>, Form)> = vec![
        ("DER", token.clone(), Form::Der),
        ("PEM", pem(&token, "\n").into(), Form::Pem),
        ("PEM with CRLF", pem(&token, "\r\n").into(), Form::Pem),
        (
            "PEM without its last line end",
            pem(&token, "\n").trim_end().into(),
            Form::Pem,
        ),
        (
            "PEM behind text",
            format!("Device: SN-1\nSlot: tmk\n{}", pem(&token, "\n")).into(),
            Form::Pem,
        ),
        (
            "PEM in one long line",
            format!("-----BEGIN CMS-----\n{}\n-----END CMS-----", base64(&token)).into(),
            Form::Pem,
        ),
        (
            "PEM behind a byte order mark",
            format!("\u{FEFF}{}", pem(&token, "\n")).into(),
            Form::Pem,
        ),
        ("hexadecimal digits", digits.clone().into(), Form::Hex),
        ("0x", format!(" 0x{digits}").into(), Form::Hex),
        (
            "capitals in lines",
            format!("{}\n", lines(&digits.to_uppercase(), 64, "\r\n")).into(),
            Form::Hex,
        ),
        ("colons", lines(&digits, 2, ":").into(), Form::Hex),
        ("base64", base64(&token).into(), Form::Base64),
        (
            "base64 in lines",
            lines(&base64(&token), 76, "\n").into(),
            Form::Base64,
        ),
    ];
    for (case, bytes, form) in forms {
        let input = Input::read(&bytes).expect(case);
        assert_eq!(input.der, token, "{case}");
        assert_eq!(input.form, form, "{case}");
        let text = if case == "PEM behind text" {
            "Device: SN-1\nSlot: tmk\n"
        } else {
            ""
        };
        assert_eq!(input.preamble, text, "{case}");
    }
}

#[test]
fn broken_der_stays_der_so_that_its_fault_is_found() {
    let token = key_token();
    for len in [1, 2, 100, token.len() - 1] {
        let input = Input::read(&token[..len]);
        // One or two bytes may be text: 30 82 is not.
        if let Ok(input) = input {
            assert_eq!(input.der, token[..len], "{len}");
        } else {
            assert_eq!(len, 1);
        }
    }
}

#[test]
fn what_is_in_no_form_is_refused() {
    let token = key_token();
    let two = format!("{0}{0}", pem(&token, "\n"));
    let unknown = |text: &str| InputError::Unknown(text.to_owned());
    let cases: Vec<(&str, Vec<u8>, InputError)> = vec![
        ("nothing", vec![], InputError::Empty),
        ("white space", b" \n\t\n".to_vec(), InputError::Empty),
        (
            "too long",
            vec![b'0'; MAX_INPUT_LEN + 1],
            InputError::TooLong,
        ),
        ("two PEM blocks", two.into(), InputError::SeveralBlocks),
        ("a word", b"hello".to_vec(), unknown("it starts with 68")),
        (
            "half a byte more",
            format!("{}0", hex::encode(&token)).into(),
            unknown("it starts with 33"),
        ),
        (
            "another tag",
            vec![0x31, 0x82, 0x00],
            unknown("it starts with 31"),
        ),
        (
            "UTF-8 that is not ASCII",
            "käse".as_bytes().to_vec(),
            unknown("it starts with 6B"),
        ),
    ];
    for (case, bytes, expected) in cases {
        assert_eq!(Input::read(&bytes).expect_err(case), expected, "{case}");
    }
    for (case, text) in [
        ("no end", pem(&token, "\n").replace("-----END CMS-----", "")),
        (
            "another end",
            pem(&token, "\n").replace("END CMS", "END PKCS7"),
        ),
        ("no base64", pem(&token, "\n").replace('M', "*")),
        ("a line alone", "-----BEGIN CMS-----".to_owned()),
    ] {
        let error = Input::read(text.as_bytes()).expect_err(case);
        assert!(matches!(error, InputError::Pem(_)), "{case}: {error}");
    }
}
