//! Tokens in files: those that are looked at without a host, and one that the host makes.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

use inspector::{Evidence, Input, MAX_INPUT_LEN, inspect, verify};
use kdh_proto::v1::MakeOnePassTokenRequest;
use pki::{Certificate, Crl};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tr34::KrdNonce;

use crate::{
    cli::{TokenCommand, TokenFileCommand},
    failure::Failure,
    report::{self, Report},
    session::{Client, request},
    token_file,
};

pub(super) async fn run(command: TokenCommand, client: &mut Client) -> Result<Report, Failure> {
    match command {
        TokenCommand::File(command) => run_on_file(command).map(|(report, _)| report),
        TokenCommand::OnePass { device, slot, out } => {
            let message = MakeOnePassTokenRequest {
                serial_number: device.clone(),
                slot: slot.clone(),
            };
            let made = client.make_one_pass_token(request(message)).await?;
            let made = made.into_inner();
            let text = report::one_pass_lines(&device, &slot, &made);
            let again =
                "make another one: the device takes the one that it sees first, or a later one";
            token_file::write_new(&out, &text, &made.kt_kdh, again)?;
            Ok(report::one_pass(&device, &slot, &made, &out))
        }
    }
}

/// Does what the command says, and with which exit code: a token whose checks do not all hold is reported
/// in full, and is a failure.
pub(crate) fn run_on_file(command: TokenFileCommand) -> Result<(Report, ExitCode), Failure> {
    match command {
        TokenFileCommand::Inspect { file } => {
            let input = read_token(&file)?;
            let inspection = inspect(&input.der, OffsetDateTime::now_utc())
                .map_err(|error| no_token(&file, &input, error))?;
            Ok((report::inspection(&inspection), ExitCode::SUCCESS))
        }
        TokenFileCommand::Verify {
            file,
            anchor,
            crl,
            nonce,
            kdh,
            krd,
            at,
        } => {
            let input = read_token(&file)?;
            let evidence = Evidence {
                anchors: read_certificates(&anchor)?,
                crl: crl.as_deref().map(read_crl).transpose()?,
                nonce: nonce.as_deref().map(parse_nonce).transpose()?,
                kdh: kdh.as_deref().map(read_certificate).transpose()?,
                krd: krd.as_deref().map(read_certificate).transpose()?,
                at: at
                    .as_deref()
                    .map_or_else(|| Ok(OffsetDateTime::now_utc()), parse_time)?,
            };
            let checks =
                verify(&input.der, &evidence).map_err(|error| no_token(&file, &input, error))?;
            let all_hold = checks.iter().all(|check| check.outcome.holds());
            let exit_code = if all_hold {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
            Ok((report::checks(&checks, all_hold), exit_code))
        }
    }
}

fn read_token(file: &Path) -> Result<Input, Failure> {
    let bytes = read(file)?;
    Input::read(&bytes).map_err(|error| {
        Failure::failed(
            format!("{} holds no token: {error}", shown(file)),
            Some("give a token as DER, PEM, hexadecimal digits or base64"),
        )
    })
}

fn no_token(file: &Path, input: &Input, error: impl std::fmt::Display) -> Failure {
    Failure::failed(
        format!(
            "{} ({}) holds no token of any profile: {error}",
            shown(file),
            input.form,
        ),
        Some(
            "bytes are counted from 0 in the DER: openssl asn1parse -inform DER -i shows what stands there",
        ),
    )
}

/// At most a little more than a token may be: the rest would only be refused.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let limit = u64::try_from(MAX_INPUT_LEN)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::usage(format!(
            "{} cannot be read: {error}",
            shown(file)
        ))),
    }
}

fn read_text(file: &Path) -> Result<String, Failure> {
    String::from_utf8(read(file)?)
        .map_err(|_| Failure::usage(format!("{} is not PEM", shown(file))))
}

/// Every certificate in a PEM file.
fn read_certificates(file: &Path) -> Result<Vec<Certificate>, Failure> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = read_text(file)?;
    let blocks: Vec<_> = text
        .split_inclusive(END)
        .filter(|block| block.contains(END))
        .collect();
    if blocks.is_empty() {
        let message = format!("{} has no certificate in PEM", shown(file));
        return Err(Failure::usage(message));
    }
    let parse = |block: &&str| {
        Certificate::from_pem(block.trim_start()).map_err(|error| bad_certificate(file, error))
    };
    blocks.iter().map(parse).collect()
}

fn read_certificate(file: &Path) -> Result<Certificate, Failure> {
    match <[Certificate; 1]>::try_from(read_certificates(file)?) {
        Ok([certificate]) => Ok(certificate),
        Err(several) => Err(Failure::usage(format!(
            "{} has {} certificates, not one",
            shown(file),
            several.len()
        ))),
    }
}

fn bad_certificate(file: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::usage(format!(
        "a certificate in {} is not acceptable: {error}",
        shown(file)
    ))
}

fn read_crl(file: &Path) -> Result<Vec<u8>, Failure> {
    match Crl::from_pem_or_der(&read(file)?) {
        Ok(crl) => Ok(crl.der().to_vec()),
        Err(error) => Err(Failure::usage(format!("{}: {error}", shown(file)))),
    }
}

fn parse_nonce(digits: &str) -> Result<KrdNonce, Failure> {
    let bytes = hex::decode(digits)
        .map_err(|_| Failure::usage("--nonce takes hexadecimal digits, two for each byte"))?;
    KrdNonce::new(&bytes)
        .map_err(|_| Failure::usage(format!("a nonce has 8 to 16 bytes, not {}", bytes.len())))
}

fn parse_time(text: &str) -> Result<OffsetDateTime, Failure> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        Failure::usage(format!(
            "--at takes a time like 2026-01-31T12:00:00Z, not \"{text}\""
        ))
    })
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}
