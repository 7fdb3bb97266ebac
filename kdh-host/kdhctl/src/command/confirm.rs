//! Asking before what cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::{failure::Failure, on_screen};

/// Has the operator type a serial number.
pub(crate) fn by_serial(serial: &str) -> Result<(), Failure> {
    require_terminal("revoking is final")?;
    let question = format!(
        "Revoking is final: {serial} will never be accepted again.\n\
         Type its serial number to go on: "
    );
    ask(
        &question,
        serial,
        &mut io::stdin().lock(),
        &mut io::stderr(),
    )
}

/// Shows what would be done, and has the operator agree.
pub(crate) fn by_yes(shown: &str) -> Result<(), Failure> {
    let question = format!("{shown}\n\nType yes to do so: ");
    ask(&question, "yes", &mut io::stdin().lock(), &mut io::stderr())
}

/// Refuses where nobody can be asked. `why` says why they would have to be.
pub(crate) fn require_terminal(why: &str) -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{why}, and there is nobody to ask, as standard input is no terminal: add --yes if it is meant"
    )))
}

fn ask(
    question: &str,
    expected: &str,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let mut typed = String::new();
    write!(output, "{}", on_screen(question))
        .and_then(|()| output.flush())
        .and_then(|()| input.read_line(&mut typed))
        .map_err(|error| Failure::failed(error, None))?;
    if typed.trim_end() == expected {
        Ok(())
    } else {
        Err(Failure::failed("not confirmed: nothing was done", None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_serial_number_itself_confirms() {
        let ask = |typed: &str| ask("Sure? ", "SN-1", &mut typed.as_bytes(), &mut Vec::new());
        for typed in ["SN-1\n", "SN-1", "SN-1\r\n"] {
            assert!(ask(typed).is_ok(), "{typed:?}");
        }
        for typed in [
            "", "\n", "y\n", "yes\n", "sn-1\n", "SN-10\n", "SN-\n", " SN-1\n",
        ] {
            assert!(ask(typed).is_err(), "{typed:?}");
        }
    }
}
