//! `kdhctl kdh`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum KdhCommand {
    /// List the KDH credentials: the present one, and those from which terminals are handed over
    #[command(
        after_help = "States: PRESENT terminals are bound to it; RETIRING each terminal is \
        handed over as it calls in; RETIRED none is left: take it out of the host's configuration, \
        and revoke its certificate with the next revocation list; ABSENT terminals are bound to a KDH \
        that the host's configuration lacks."
    )]
    List,
    /// Watch terminals being handed over until none is left at a retiring KDH credential
    #[command(after_help = "Example: kdhctl kdh watch --seconds 60\n\n\
        It may be stopped and started at any time: terminals are handed over as they call in.")]
    Watch {
        /// Ask the host again after this time
        #[arg(long, value_name = "N", default_value_t = 10,
              value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}
