//! The socket: lines in, a line out for each. It knows nothing of what they mean.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Answers a line with a line.
type Answer = fn(&str) -> String;

/// The socket, when there is one.
pub(crate) struct Control(Mutex<Option<Listening>>);

struct Listening {
    path: PathBuf,
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Control {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Accepts clients from now on, in threads of its own.
    ///
    /// # Errors
    /// There can be no socket at `path`, or another process listens there.
    pub(crate) fn listen(&self, path: &Path, answer: Answer) -> io::Result<()> {
        let mut listening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.is_some() {
            return Ok(());
        }
        // What a process left behind does not answer.
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // Whoever sees the socket can connect to it.
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        let listener = UnixListener::bind(&new)?;
        fs::rename(&new, path)?;

        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let accept = move || {
            for client in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    break;
                }
                if let Ok(client) = client {
                    thread::spawn(move || serve(&client, answer));
                }
            }
        };
        *listening = Some(Listening {
            path: path.to_owned(),
            stopped,
            thread: thread::Builder::new().spawn(accept)?,
        });
        Ok(())
    }

    /// Accepts no more of them. Those that are connected stay.
    pub(crate) fn stop(&self) {
        let mut listening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listening) = listening.take() else {
            return;
        };
        listening.stopped.store(true, Ordering::SeqCst);
        // Wakes it. It waits for ever if the socket's folder is gone, which then does no harm.
        if UnixStream::connect(&listening.path).is_ok() {
            let _ = listening.thread.join();
            let _ = fs::remove_file(&listening.path);
        }
    }
}

/// Until the client leaves, or sends what is no text.
fn serve(client: &UnixStream, answer: Answer) {
    for line in BufReader::new(client).lines() {
        let Ok(line) = line else { return };
        let mut answer = answer(&line);
        answer.push('\n');
        let mut client = client;
        if client.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
