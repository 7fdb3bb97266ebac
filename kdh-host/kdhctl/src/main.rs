//! `kdhctl`: the key distribution host's administration from the command line.

mod cli;
mod command;
mod config;
mod device_file;
mod export_file;
mod failure;
mod pages;
mod profile_file;
mod report;
mod session;
mod token_file;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use serde_json::Value;

use crate::{
    cli::{Cli, Command, TokenCommand},
    config::Config,
    failure::Failure,
    report::Report,
};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    let outcome = run(cli).await.and_then(|(report, exit_code)| {
        match write(&mut io::stdout(), json, &report.json, &report.text) {
            Ok(()) => Ok(exit_code),
            // Whoever reads has had enough, and knows it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::FAILURE),
            Err(error) => {
                let cause = format!("done, but not shown: {error}");
                Err(Failure::failed(cause, None))
            }
        }
    });
    let failure = match outcome {
        Ok(exit_code) => return exit_code,
        Err(failure) => failure,
    };
    let (as_json, text) = (failure.to_json(), failure.to_string());
    // If this fails, only the exit code is left to tell.
    drop(write(&mut io::stderr(), json, &as_json, &text));
    ExitCode::from(failure.exit_code)
}

async fn run(cli: Cli) -> Result<(Report, ExitCode), Failure> {
    hsm::forbid_core_dumps().map_err(|error| {
        Failure::failed(format!("core dumps cannot be turned off: {error}"), None)
    })?;
    // Tokens in files are looked at without a host, and so without a configuration.
    if let Command::Token(TokenCommand::File(command)) = cli.command {
        return command::run_on_token_file(command);
    }
    let config = Config::load(cli.config.as_deref())?;
    command::prepare(&cli.command)?;
    let session = session::open(&config).await?;
    command::run(cli.command, session).await
}

fn write(output: &mut impl Write, as_json: bool, json: &Value, text: &str) -> io::Result<()> {
    if as_json {
        writeln!(output, "{json:#}")
    } else {
        writeln!(output, "{}", on_screen(text))
    }
}

/// Text in which no name and no message steers the terminal.
fn on_screen(text: &str) -> String {
    text.replace(steers, "\u{FFFD}")
}

/// Whether a character moves the cursor, hides, or turns the order of what is beside it round.
fn steers(character: char) -> bool {
    match character {
        '\n' => false,
        '\u{061C}'
        | '\u{200B}'..='\u{200F}'
        | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_steers_the_terminal() {
        let shown = |as_json| {
            let mut output = Vec::new();
            let model = "X\u{1b}[2J\u{9b}1m\r\u{202e}\u{200b}";
            write(
                &mut output,
                as_json,
                &Value::from(model),
                &format!("{model}\nY"),
            )
            .unwrap();
            String::from_utf8(output).unwrap()
        };
        assert_eq!(
            shown(false),
            "X\u{FFFD}[2J\u{FFFD}1m\u{FFFD}\u{FFFD}\u{FFFD}\nY\n"
        );
        assert!(!shown(true).contains('\u{1b}'), "{:?}", shown(true));
    }
}
