//! A terminal for the program, and what somebody sees who sits at it.

use std::{
    io::{Read as _, Write},
    num::NonZero,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};
use vt100::Parser;

use crate::site::Site;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who owns the terminal, as a shell does. It says which process the program is and how it ended, and stays
/// until it is killed: when a terminal's owner ends, Linux throws away what was on its way from the program
/// to the reader.
const OWNER: &str = r#"
trap : INT QUIT
sh -c 'printf "\033]program;%s\007" $$; exec "$@"' program "$@"
printf '\033]ended;%s\007' $?
trap - INT QUIT
exec sleep infinity
"#;
/// How the owner's messages begin and end: a sequence that no terminal shows.
const MESSAGE: (&str, &str) = ("\x1b]", "\x07");

/// A pseudo-terminal with the program in it, read by a terminal emulator that is none of ours.
pub(crate) struct Terminal {
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    owner: Box<dyn Child + Send + Sync>,
    program: Pid,
    output: Receiver<Vec<u8>>,
    emulator: Parser,
    /// Every byte that the program sent.
    sent: Vec<u8>,
    /// The terminal's modes before.
    modes: String,
}

impl Terminal {
    /// Runs the program in the site's folder, on a terminal of so many columns and rows.
    pub(crate) fn run(site: &Site, arguments: &[&str], (columns, rows): (u16, u16)) -> Self {
        Self::run_as(site, arguments, (columns, rows), "xterm")
    }

    /// The same, and this is the kind of terminal.
    pub(crate) fn run_as(
        site: &Site,
        arguments: &[&str],
        (columns, rows): (u16, u16),
        kind: &str,
    ) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_kdh-ceremony"));
        command.args(arguments);
        command.cwd(site.folder());
        command.env("TERM", kind);
        Self::run_command(&command, (columns, rows))
    }

    pub(crate) fn run_command(command: &CommandBuilder, (columns, rows): (u16, u16)) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let modes = modes(&*pair.master);
        let mut owner = CommandBuilder::new("sh");
        owner.args(["-c", OWNER, "owner"]);
        owner.args(command.get_argv());
        for (name, value) in command.iter_full_env_as_str() {
            owner.env(name, value);
        }
        if let Some(folder) = command.get_cwd() {
            owner.cwd(folder);
        }
        let owner = pair.slave.spawn_command(owner).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // At the end of the last process that has it open, a terminal cannot be read any more.
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self {
            keyboard: pair.master.take_writer().unwrap(),
            master: pair.master,
            owner,
            program: Pid::INIT,
            output,
            emulator: Parser::new(some(rows), some(columns), 1000),
            sent: Vec::new(),
            modes,
        };
        let program = terminal.is_told_by_the_owner("program");
        terminal.program = Pid::from_raw(program).unwrap();
        terminal
    }

    /// Waits for a number that the owner says.
    fn is_told_by_the_owner(&mut self, what: &str) -> i32 {
        let until = Instant::now() + PATIENCE;
        loop {
            let sent = String::from_utf8_lossy(&self.sent);
            let number = sent.split_once(&begin(what)).and_then(|(_, rest)| {
                let (number, _) = rest.split_once(MESSAGE.1)?;
                Some(number.parse().unwrap())
            });
            if let Some(number) = number {
                return number;
            }
            let patience = until.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(patience) {
                Ok(bytes) => self.take(&bytes),
                Err(error) => panic!("{what:?} was not said ({error}):\n{}", self.screen()),
            }
        }
    }

    /// Waits until the screen shows this.
    pub(crate) fn sees(&mut self, text: &str) -> &mut Self {
        let until = Instant::now() + PATIENCE;
        while !self.screen().contains(text) {
            let patience = until.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(patience) {
                Ok(bytes) => self.take(&bytes),
                Err(error) => panic!("{text:?} was not seen ({error}):\n{}", self.screen()),
            }
        }
        self
    }

    /// Empties the screen for the person, not for the program: what is seen from now on is new.
    pub(crate) fn forget(&mut self) -> &mut Self {
        self.emulator.process(b"\x1b[2J\x1b[H");
        self
    }

    fn take(&mut self, bytes: &[u8]) {
        self.emulator.process(bytes);
        self.sent.extend_from_slice(bytes);
    }

    pub(crate) fn types(&mut self, text: &str) -> &mut Self {
        self.keyboard.write_all(text.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
        self
    }

    pub(crate) fn resizes(&mut self, columns: u16, rows: u16) -> &mut Self {
        self.emulator
            .screen_mut()
            .set_size(some(rows), some(columns));
        self.master.resize(size(columns, rows)).unwrap();
        self
    }

    /// Sends the program a signal.
    pub(crate) fn is_told(&mut self, signal: Signal) -> &mut Self {
        kill_process(self.program, signal).unwrap();
        self
    }

    /// What the screen shows, without the blanks behind.
    pub(crate) fn screen(&self) -> String {
        self.emulator.screen().contents()
    }

    /// Waits for the program's end, with this exit code.
    pub(crate) fn ends_with(&mut self, code: i32) -> &mut Self {
        let ended = self.is_told_by_the_owner("ended");
        assert_eq!(ended, code, "{}", self.screen());
        self
    }

    /// The terminal is as it was before the program, but for what was printed after it.
    pub(crate) fn assert_restored(&self) {
        let screen = self.emulator.screen();
        assert!(!screen.alternate_screen(), "{}", self.screen());
        assert!(!screen.hide_cursor());
        assert_eq!(modes(&*self.master), self.modes);
    }

    /// Every byte that the program sent, as text.
    pub(crate) fn sent(&self) -> String {
        let all = String::from_utf8_lossy(&self.sent);
        let after_the_first = all.split_once(MESSAGE.1).map_or("", |(_, rest)| rest);
        let (sent, _) = after_the_first
            .split_once(&begin("ended"))
            .unwrap_or((after_the_first, ""));
        sent.to_owned()
    }
}

/// How the owner begins to say this.
fn begin(what: &str) -> String {
    format!("{}{what};", MESSAGE.0)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves no program behind.
        drop(self.owner.kill());
    }
}

fn some(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

const fn size(columns: u16, rows: u16) -> PtySize {
    PtySize {
        rows,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

fn modes(terminal: &(dyn MasterPty + Send)) -> String {
    format!("{:?}", terminal.get_termios().unwrap())
}
