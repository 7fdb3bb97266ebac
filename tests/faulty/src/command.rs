//! The commands and their language: words with one blank between them. A label goes to the end of
//! its line, or to the last word of it, and may have blanks in it.

use std::time::Duration;

use cryptoki_sys::{CK_RV, CKR_OK};

use crate::functions::Function;

/// A command. Its form is above each; FUNCTION is a name like `C_Sign`, or `*` for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `delay FUNCTION MICROSECONDS`: such calls sleep that long before they are forwarded; 0 ends it.
    /// What is said of a function counts more than what is said of all.
    Delay { target: Target, time: Duration },
    /// `fail FUNCTION CODE NTH [COUNT]`: the NTH call from now (1 is the next) returns CODE (0x30) and
    /// is not forwarded, and so are those after it, COUNT in all: 1 if it is not said, or `forever`.
    Fail {
        target: Target,
        code: CK_RV,
        calls: Calls,
    },
    /// `hang FUNCTION NTH`: the NTH call from now waits for `release`, and goes on then.
    Hang { target: Target, calls: Calls },
    /// `die FUNCTION NTH`: at the NTH call from now, before it is forwarded, the process is gone, as if it were
    /// killed.
    Die { target: Target, calls: Calls },
    /// `release`: calls that hang go on. Those that are to hang later still do.
    Release,
    /// `wait-hanging N`: is answered when N calls hang.
    WaitHanging(u64),
    /// `lose-sessions [LABEL]`: closes all sessions, or those with this token.
    LoseSessions(Option<String>),
    /// `remove LABEL`: the token is gone, and its sessions with it.
    Remove(String),
    /// `insert LABEL`: it is back, without its sessions.
    Insert(String),
    /// `fail-token LABEL CODE`: calls with a session of this token return CODE, as opening one does.
    FailToken { label: String, code: CK_RV },
    /// `heal-token LABEL`: they no longer do.
    HealToken(String),
    /// `count FUNCTION`: the number of calls since the process started, failed ones included.
    Count(Target),
    /// `counts`: `C_Login=1 C_Sign=3`, those above zero in the order of PKCS#11.
    Counts,
    /// `times`: `C_Login=1234 C_Sign=5678`, microseconds in the real module since the process started.
    Times,
    /// `clear`: ends all delays, faults and removals, and releases what hangs.
    Clear,
}

/// What functions a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    All,
    One(Function),
}

impl Target {
    pub(crate) fn covers(self, function: Function) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == function,
        }
    }
}

/// Some of the calls from now on: `skip` are not meant, and `left` (all of them if none) after those
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) skip: u64,
    pub(crate) left: Option<u64>,
}

impl Calls {
    /// Takes note of a call and says whether it is meant.
    pub(crate) fn meet(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    pub(crate) fn are_over(self) -> bool {
        self.left == Some(0)
    }
}

impl Command {
    /// The command in a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let (verb, rest) = match line.split_once(' ') {
            Some((verb, rest)) => (verb, Some(rest)),
            None => (line, None),
        };
        let words: Vec<&str> = rest
            .map(|rest| rest.split(' ').collect())
            .unwrap_or_default();
        let command = match (verb, &words[..]) {
            ("delay", [function, time]) => Self::Delay {
                target: target(function)?,
                time: Duration::from_micros(number(time)?),
            },
            ("fail", [function, code_word, nth_word]) => Self::Fail {
                target: target(function)?,
                code: code(code_word)?,
                calls: calls(nth_word, "1")?,
            },
            ("fail", [function, code_word, nth_word, count]) => Self::Fail {
                target: target(function)?,
                code: code(code_word)?,
                calls: calls(nth_word, count)?,
            },
            ("hang", [function, nth_word]) => Self::Hang {
                target: target(function)?,
                calls: calls(nth_word, "1")?,
            },
            ("die", [function, nth_word]) => Self::Die {
                target: target(function)?,
                calls: calls(nth_word, "1")?,
            },
            ("release", []) => Self::Release,
            ("wait-hanging", [count]) => Self::WaitHanging(above_zero(count)?),
            ("lose-sessions", []) => Self::LoseSessions(None),
            ("lose-sessions", _) => Self::LoseSessions(Some(label(rest)?)),
            ("remove", _) => Self::Remove(label(rest)?),
            ("insert", _) => Self::Insert(label(rest)?),
            ("fail-token", [.., code_word]) => Self::FailToken {
                label: label(
                    rest.and_then(|rest| rest.rsplit_once(' '))
                        .map(|(name, _)| name),
                )?,
                code: code(code_word)?,
            },
            ("heal-token", _) => Self::HealToken(label(rest)?),
            ("count", [function]) => Self::Count(target(function)?),
            ("counts", []) => Self::Counts,
            ("times", []) => Self::Times,
            ("clear", []) => Self::Clear,
            _ => return Err(format!("not a command: {line:?}")),
        };
        Ok(command)
    }
}

fn target(word: &str) -> Result<Target, String> {
    if word == "*" {
        return Ok(Target::All);
    }
    let function = Function::ALL
        .iter()
        .find(|function| function.name() == word);
    match function {
        Some(function) => Ok(Target::One(*function)),
        None => Err(format!("not a function of PKCS#11 2.40: {word:?}")),
    }
}

/// Of all that a number may look like, digits alone.
fn number(word: &str) -> Result<u64, String> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let number = word.parse().ok().filter(|_| digits);
    number.ok_or_else(|| format!("not a number: {word:?}"))
}

fn above_zero(word: &str) -> Result<u64, String> {
    match number(word)? {
        0 => Err("0 where counting starts at 1".to_owned()),
        number => Ok(number),
    }
}

fn calls(nth: &str, count: &str) -> Result<Calls, String> {
    let left = match count {
        "forever" => None,
        count => Some(above_zero(count)?),
    };
    let skip = above_zero(nth)? - 1;
    Ok(Calls { skip, left })
}

fn code(word: &str) -> Result<CK_RV, String> {
    let digits = word
        .strip_prefix("0x")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let code = digits.and_then(|digits| CK_RV::from_str_radix(digits, 16).ok());
    match code {
        // Success without having done anything is no fault that a module has.
        Some(CKR_OK) => Err("0x0 is success".to_owned()),
        Some(code) => Ok(code),
        None => Err(format!("not a code like 0x30: {word:?}")),
    }
}

fn label(text: Option<&str>) -> Result<String, String> {
    let label = text.unwrap_or_default();
    // Tokens pad theirs with blanks, so that none can end with one.
    if label.is_empty() || label != label.trim() {
        return Err(format!("not a label: {label:?}"));
    }
    Ok(label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGN: Target = Target::One(Function::C_Sign);

    #[test]
    fn commands_are_read() {
        let calls = |skip, left| Calls { skip, left };
        let cases = [
            (
                "delay C_Sign 1500",
                Command::Delay {
                    target: SIGN,
                    time: Duration::from_micros(1500),
                },
            ),
            (
                "delay * 0",
                Command::Delay {
                    target: Target::All,
                    time: Duration::ZERO,
                },
            ),
            (
                "fail C_Sign 0x30 2",
                Command::Fail {
                    target: SIGN,
                    code: 0x30,
                    calls: calls(1, Some(1)),
                },
            ),
            (
                "fail C_Sign 0xE0 1 3",
                Command::Fail {
                    target: SIGN,
                    code: 0xe0,
                    calls: calls(0, Some(3)),
                },
            ),
            (
                "fail * 0x80000001 4 forever",
                Command::Fail {
                    target: Target::All,
                    code: 0x8000_0001,
                    calls: calls(3, None),
                },
            ),
            (
                "hang C_Sign 1",
                Command::Hang {
                    target: SIGN,
                    calls: calls(0, Some(1)),
                },
            ),
            ("release", Command::Release),
            (
                "die C_DestroyObject 4",
                Command::Die {
                    target: Target::One(Function::C_DestroyObject),
                    calls: Calls {
                        skip: 3,
                        left: Some(1),
                    },
                },
            ),
            ("wait-hanging 2", Command::WaitHanging(2)),
            ("lose-sessions", Command::LoseSessions(None)),
            (
                "lose-sessions kdh host",
                Command::LoseSessions(Some("kdh host".to_owned())),
            ),
            ("remove kdh", Command::Remove("kdh".to_owned())),
            ("insert kdh", Command::Insert("kdh".to_owned())),
            (
                "fail-token kdh host 0x30",
                Command::FailToken {
                    label: "kdh host".to_owned(),
                    code: 0x30,
                },
            ),
            ("heal-token kdh", Command::HealToken("kdh".to_owned())),
            ("count *", Command::Count(Target::All)),
            ("counts", Command::Counts),
            ("times", Command::Times),
            ("clear", Command::Clear),
        ];
        for (line, command) in cases {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let cases = [
            "",
            " ",
            "Release",
            "release now",
            "release ",
            " release",
            "delay C_Sign",
            "delay C_Sign  1",
            "delay C_Sign -1",
            "delay C_Sign +1",
            "delay C_Sign 1ms",
            "delay C_Signal 1",
            "delay c_sign 1",
            "delay C_LoginUser 1",
            "delay C_Sign 18446744073709551616",
            "fail C_Sign 30 1",
            "fail C_Sign 0x 1",
            "fail C_Sign 0x+3 1",
            "fail C_Sign 0x0 1",
            "fail C_Sign 0x30",
            "fail C_Sign 0x30 0",
            "fail C_Sign 0x30 1 0",
            "fail C_Sign 0x30 1 ever",
            "fail C_Sign 0x30 1 2 3",
            "hang C_Sign",
            "hang C_Sign 0",
            "hang C_Sign 1 1",
            "die C_Sign",
            "die C_Sign 0",
            "die C_Sign 1 1",
            "wait-hanging",
            "wait-hanging 0",
            "lose-sessions ",
            "remove",
            "remove ",
            "remove  kdh",
            "remove kdh ",
            "insert",
            "fail-token",
            "fail-token 0x30",
            "fail-token kdh",
            "fail-token kdh host",
            "fail-token kdh  0x30",
            "heal-token",
            "count",
            "count C_Sign C_Login",
            "counts C_Sign",
            "times C_Sign",
            "clear all",
        ];
        for line in cases {
            assert!(Command::parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn calls_are_counted_from_now() {
        let meant = |mut calls: Calls| -> Vec<bool> { (0..5).map(|_| calls.meet()).collect() };
        let (no, yes) = (false, true);
        let cases = [
            ("1", "1", [yes, no, no, no, no]),
            ("2", "1", [no, yes, no, no, no]),
            ("2", "3", [no, yes, yes, yes, no]),
            ("3", "forever", [no, no, yes, yes, yes]),
        ];
        for (nth, count, expected) in cases {
            assert_eq!(meant(calls(nth, count).unwrap()), expected, "{nth} {count}");
        }
    }
}
