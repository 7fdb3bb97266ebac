//! Keeps a PostgreSQL server for as long as its input lasts, with `--tls` one that listens on loopback, too, and with
//! `--keep DIR` one whose files stay there. Prints the folder of its socket, the port, and `done` for each order that it
//! obeyed: `crash`, `start`, `freeze`, `thaw`.

use std::io::{Write as _, stdin, stdout};

use anyhow::{Result, bail};
use private_postgres::Server;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut server = match &arguments[..] {
        [keep, folder] if keep == "--keep" => Server::kept(folder.as_ref())?,
        _ => Server::new(arguments.iter().any(|argument| argument == "--tls"))?,
    };
    say(&server.socket().display().to_string())?;
    say(&server.port().unwrap_or_default().to_string())?;
    for order in stdin().lines() {
        match order?.as_str() {
            "crash" => server.crash()?,
            "start" => server.start()?,
            "freeze" => server.freeze()?,
            "thaw" => server.thaw()?,
            other => bail!("what is {other:?}?"),
        }
        say("done")?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}")?;
    Ok(stdout().flush()?)
}
