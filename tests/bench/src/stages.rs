//! Where the host says that the time of its deliveries went, if it says so: a line of its log that ends
//! in `stages={...}`, a JSON object of milliseconds by stage. The last one counts.

use std::collections::BTreeMap;

/// Milliseconds of a delivery, by stage.
pub(crate) type Stages = BTreeMap<String, f64>;

const MARK: &str = "stages=";

/// What the log of a host tells.
pub(crate) fn of_log(log: &str) -> Option<Stages> {
    log.lines().rev().find_map(|line| {
        let (_, json) = line.split_once(MARK)?;
        serde_json::from_str(json.trim()).ok()
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let log = "INFO serving\nINFO stages={\"sign\":1.0}\nINFO stages={\"sign\":2.5,\"seal\":3}\n\
                   INFO stages=none\nINFO stopped\n";
        let stages = of_log(log).unwrap();
        assert_eq!(stages, [("seal".into(), 3.0), ("sign".into(), 2.5)].into());
        assert_eq!(of_log("INFO serving\n"), None);
    }
}
