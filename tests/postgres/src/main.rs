//! Keeps a PostgreSQL server for as long as its input lasts, with `--tls` one that listens on loopback, too. Prints the
//! folder of its socket, the port, and `done` for each order that it obeyed: `crash`, `start`, `freeze`, `thaw`.

use std::io::{Write as _, stdin, stdout};

use anyhow::{Result, bail};
use private_postgres::Server;

fn main() -> Result<()> {
    let with_tls = std::env::args().any(|argument| argument == "--tls");
    let mut server = Server::new(with_tls)?;
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
