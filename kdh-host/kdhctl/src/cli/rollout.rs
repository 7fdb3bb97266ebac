//! `kdhctl rollout`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Change, Page};

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Start a rollout
    ///
    /// Shows first what it would do: how many terminals get a key in which slots, what they hold now, and who is
    /// skipped. Terminals that are revoked, suspended, quarantined or gone to another host are skipped; those that have
    /// not enrolled yet get their key too, for whichever encryption key they enrol with first.
    #[command(
        after_help = "Examples:\n  kdhctl rollout start --model \"Model X\" --dry-run\n  \
        kdhctl rollout start --group pilot --slot tmk --why \"new acquirer\"\n  \
        kdhctl rollout start --model \"Model X\" --wave 1% --proceed-at 95 --stop-after 3 --why \"yearly\"\n\n\
        With waves, the next one begins when enough keys of the present one are confirmed. With --stop-after the\n\
        rollout pauses by itself when more terminals than that have reported a wrong check value; they are in\n\
        quarantine then. Look at them, and have it go on with \"kdhctl rollout resume\", or stop it."
    )]
    Start {
        #[command(flatten)]
        target: RolloutTarget,
        /// Only this slot; may be given several times [default: every slot of the terminals' profiles]
        #[arg(long = "slot", value_name = "SLOT")]
        slots: Vec<String>,
        #[command(flatten)]
        waves: Waves,
        #[command(flatten)]
        change: Change,
    },
    /// List rollouts, newest first
    #[command(
        after_help = "States: RUNNING keys are made, or it waits for confirmations of a wave; PAUSED until it is \
        resumed; STOPPED for good; DONE every terminal was looked at.\nKinds: COMMAND an operator has started it; RENEWAL \
        keys that were due; FILLING terminals that came later."
    )]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Show a rollout with its waves: how many keys were made, offered, confirmed, and failed
    Show(Number),
    /// Watch a rollout until it is done, paused or stopped
    #[command(after_help = "Example: kdhctl rollout watch 7 --seconds 5\n\n\
        It may be stopped and started at any time; so may the host, which goes on where it was.")]
    Watch {
        #[command(flatten)]
        rollout: Number,
        /// Until its keys are confirmed, too
        #[arg(long)]
        confirmed: bool,
        /// Ask the host again after this time
        #[arg(long, value_name = "N", default_value_t = 2,
              value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
    /// Make no more keys until the rollout is resumed
    ///
    /// Keys that were made stay, and terminals go on loading them.
    #[command(after_help = "Example: kdhctl rollout pause 7 --why \"questions at the switch\"")]
    Pause(Order),
    /// Go on with a rollout that is paused
    ///
    /// Wrong check values that were reported until now count no more for --stop-after.
    #[command(
        after_help = "Example: kdhctl rollout resume 7 --why \"it was the firmware of three\""
    )]
    Resume(Order),
    /// End a rollout for good
    ///
    /// Keys that were made stay, and terminals go on loading them: there is no way back to the key before but a newer
    /// one.
    #[command(after_help = "Example: kdhctl rollout stop 7 --why \"superseded\"")]
    Stop(Order),
    /// Report what became of each terminal
    #[command(
        after_help = "Examples:\n  kdhctl rollout report 7 --troubled\n  kdhctl --json rollout report 7 > rollout-7.json\n\n\
        States: MADE; OFFERED the terminal has been given a token; CONFIRMED; FAILED it reported a wrong check value;\n\
        VOID another version came first, or the terminal was revoked; SKIPPED, with the reason."
    )]
    Report {
        #[command(flatten)]
        rollout: Number,
        /// Only those that were skipped or that failed
        #[arg(long)]
        troubled: bool,
        #[command(flatten)]
        page: Page,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Number {
    /// The rollout's number
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) number: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Order {
    #[command(flatten)]
    pub(crate) rollout: Number,
    /// The reason, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RolloutTarget {
    /// Every terminal of this model whose group carries no key profile
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Every terminal in this group
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// This terminal; may be given several times
    #[arg(long = "device", value_name = "SERIAL")]
    pub(crate) devices: Vec<String>,
    /// The terminals in this file, a serial number a line; 1000 at most
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Waves {
    /// So many terminals at a time, as a number or in percent of all [default: all at once]
    #[arg(long, value_name = "N|N%", value_parser = wave)]
    pub(crate) wave: Option<Wave>,
    /// So many percent of a wave's keys are confirmed before the next one begins
    #[arg(long, value_name = "PERCENT", default_value_t = 95, requires = "wave",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) proceed_at: u32,
    /// Pause when more terminals than this have reported a wrong check value
    #[arg(long, value_name = "N")]
    pub(crate) stop_after: Option<u32>,
}

/// How many terminals are in a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wave {
    Devices(u32),
    Percent(u32),
}

fn wave(text: &str) -> Result<Wave, String> {
    let (digits, percent) = match text.strip_suffix('%') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    match (digits.parse(), percent) {
        (Ok(size @ 1..=100), true) => Ok(Wave::Percent(size)),
        (Ok(size @ 1..), false) => Ok(Wave::Devices(size)),
        _ => Err("a number of terminals from 1, or 1% to 100%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_numbers_or_percent() {
        assert_eq!(wave("1"), Ok(Wave::Devices(1)));
        assert_eq!(wave("5000"), Ok(Wave::Devices(5000)));
        assert_eq!(wave("1%"), Ok(Wave::Percent(1)));
        assert_eq!(wave("100%"), Ok(Wave::Percent(100)));
        for bad in ["", "%", "0", "0%", "101%", "-1", "1.5%", "1 %", "x", "5%%"] {
            assert!(wave(bad).is_err(), "{bad:?}");
        }
    }
}
