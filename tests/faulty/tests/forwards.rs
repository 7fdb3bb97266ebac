//! The module in front of a real one, with a client of PKCS#11 on one side and one of its control
//! on the other.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use hsm_modules::{NSS, Place, SOFTHSM, build_folder, cargo_build};

const SO_PIN: &str = "12345678";
const USER_PIN: &str = "1234";
/// A label with a blank, which commands have to bear.
const OURS: &str = "our token";
const OTHER: &str = "other";

/// Runs the body of a test in a process of its own, with no token yet.
fn faulty<F: FnOnce(&Place)>(body: F) {
    faulty_from("", body);
}

/// As [`faulty`], with commands to start with.
fn faulty_from<F: FnOnce(&Place)>(start: &str, body: F) {
    let prepare = |place: &Place, child: &mut Command| {
        // Cargo builds a package's cdylib for none of its tests.
        cargo_build(&["--package", "faulty-module"]).unwrap();
        child
            .env("FAULTY_MODULE", place.module().library().unwrap())
            .env("FAULTY_CONTROL", socket(place))
            .env("FAULTY_START", start);
    };
    hsm_modules::on_prepared(&[&SOFTHSM], prepare, body);
}

fn socket(place: &Place) -> PathBuf {
    place.folder().join("control")
}

fn initialized() -> Pkcs11 {
    let library = build_folder().unwrap().join("libfaulty_module.so");
    let module = Pkcs11::new(library).unwrap();
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    module.initialize(arguments).unwrap();
    module
}

struct Control(BufReader<UnixStream>);

impl Control {
    fn of(place: &Place) -> Self {
        Self(BufReader::new(UnixStream::connect(socket(place)).unwrap()))
    }

    fn ask(&mut self, command: &str) -> String {
        let line = format!("{command}\n");
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.trim_end_matches('\n').to_owned()
    }

    fn tell(&mut self, command: &str) {
        assert_eq!(self.ask(command), "ok", "{command}");
    }
}

fn pin(pin: &str) -> AuthPin {
    AuthPin::new(pin.to_owned().into())
}

/// A new token and its slot.
fn token(module: &Pkcs11, label: &str) -> Slot {
    let all = module.get_slots_with_token().unwrap();
    let is_new = |slot: &Slot| !module.get_token_info(*slot).unwrap().token_initialized();
    let slot = all.into_iter().find(is_new).unwrap();
    module.init_token(slot, &pin(SO_PIN), label).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::So, Some(&pin(SO_PIN))).unwrap();
    session.init_pin(&pin(USER_PIN)).unwrap();
    slot
}

/// A session with a key of its own.
struct Signer {
    session: Session,
    key: ObjectHandle,
}

impl Signer {
    /// The first of a token has to log in.
    fn new(module: &Pkcs11, slot: Slot) -> Self {
        let session = module.open_rw_session(slot).unwrap();
        match session.login(UserType::User, Some(&pin(USER_PIN))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => panic!("{error}"),
        }
        let template = [Attribute::Sign(true), Attribute::ValueLen(32.into())];
        let key = session
            .generate_key(&Mechanism::GenericSecretKeyGen, &template)
            .unwrap();
        Self { session, key }
    }

    /// Two calls of `C_Sign`: how much room the result takes is asked first.
    fn sign(&self) -> Result<Vec<u8>, RvError> {
        code(self.session.sign(&Mechanism::Sha256Hmac, self.key, b"data"))
    }

    fn random(&self) -> Result<Vec<u8>, RvError> {
        code(self.session.generate_random_vec(8))
    }
}

fn code<T>(result: Result<T, Error>) -> Result<T, RvError> {
    result.map_err(|error| match error {
        Error::Pkcs11(code, _) => code,
        error => panic!("{error}"),
    })
}

#[test]
fn it_forwards_and_counts() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        let signer = Signer::new(&module, token(&module, OURS));
        let signature = signer.sign().unwrap();
        assert_eq!(signature.len(), 32);
        assert_eq!(signer.sign().unwrap(), signature);
        assert_eq!(control.ask("count C_Sign"), "4");
        assert_eq!(control.ask("count C_GenerateKey"), "1");
        assert_eq!(control.ask("count C_Verify"), "0");
        let counts = control.ask("counts");
        assert!(
            counts.starts_with("C_Initialize=1 C_GetFunctionList=1 "),
            "{counts}"
        );
        assert!(counts.contains(" C_SignInit=2 C_Sign=4"), "{counts}");
        let sum: u64 = counts
            .split(' ')
            .map(|count| count.split_once('=').unwrap().1.parse::<u64>().unwrap())
            .sum();
        assert_eq!(control.ask("count *"), sum.to_string());
        for wrong in ["", "sign", "remove nobody", "insert our token"] {
            let answer = control.ask(wrong);
            assert!(answer.starts_with("error: "), "{wrong}: {answer}");
        }
    });
}

#[test]
fn the_nth_call_fails() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        let signer = Signer::new(&module, token(&module, OURS));

        control.tell("fail C_GenerateRandom 0x30 2");
        let results: Vec<bool> = (0..4).map(|_| signer.random().is_ok()).collect();
        assert_eq!(results, [true, false, true, true]);

        control.tell("fail C_GenerateRandom 0x32 1 forever");
        for _ in 0..3 {
            assert_eq!(signer.random(), Err(RvError::DeviceRemoved));
        }
        control.tell("clear");
        signer.random().unwrap();

        // The first call says how much room it takes.
        control.tell("fail C_Sign 0x30 2");
        assert_eq!(signer.sign(), Err(RvError::DeviceError));
        assert_eq!(control.ask("count C_Sign"), "2");
        // The real module was not asked, and still waits for it.
        assert_eq!(signer.sign(), Err(RvError::OperationActive));
    });
}

#[test]
fn calls_are_slow_side_by_side() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        let slot = token(&module, OURS);
        let signers: Vec<Signer> = (0..8).map(|_| Signer::new(&module, slot)).collect();
        let delay = Duration::from_millis(300);
        control.tell("delay C_GenerateRandom 300000");
        let start = Instant::now();
        thread::scope(|scope| {
            for signer in signers {
                scope.spawn(move || signer.random().unwrap());
            }
        });
        let elapsed = start.elapsed();
        assert!(elapsed >= delay, "{elapsed:?}");
        assert!(elapsed < delay * 4, "one after the other: {elapsed:?}");
        control.tell("delay C_GenerateRandom 0");
        control.tell("delay * 1000");
        control.tell("clear");
    });
}

#[test]
fn a_hanging_call_goes_on_when_released() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        let slot = token(&module, OURS);
        let (hanging, other) = (Signer::new(&module, slot), Signer::new(&module, slot));
        control.tell("hang C_Sign 1");
        let hanging = thread::spawn(move || hanging.sign());
        control.tell("wait-hanging 1");
        assert!(!hanging.is_finished());
        other.sign().unwrap();
        // A hanging call keeps nobody from closing its session.
        control.tell("lose-sessions");
        control.tell("release");
        assert_eq!(
            hanging.join().unwrap(),
            Err(RvError::SessionHandleInvalid),
            "it is forwarded to what has become of its session"
        );

        let signer = Signer::new(&module, slot);
        control.tell("hang C_Sign 1");
        let signer = thread::spawn(move || signer.sign());
        control.tell("wait-hanging 1");
        control.tell("release");
        signer.join().unwrap().unwrap();
    });
}

#[test]
fn sessions_are_lost() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        let (ours, other) = (token(&module, OURS), token(&module, OTHER));
        let (our_signer, other_signer) = (Signer::new(&module, ours), Signer::new(&module, other));
        control.tell("lose-sessions our token");
        assert_eq!(our_signer.sign(), Err(RvError::SessionHandleInvalid));
        other_signer.sign().unwrap();
        let our_signer = Signer::new(&module, ours);
        our_signer.sign().unwrap();
        control.tell("lose-sessions");
        assert_eq!(our_signer.sign(), Err(RvError::SessionHandleInvalid));
        assert_eq!(other_signer.sign(), Err(RvError::SessionHandleInvalid));
    });
}

#[test]
fn a_token_is_removed_and_inserted() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        let (ours, other) = (token(&module, OURS), token(&module, OTHER));
        let (our_signer, other_signer) = (Signer::new(&module, ours), Signer::new(&module, other));
        let before = module.get_slots_with_token().unwrap();
        control.tell("remove our token");

        assert_eq!(our_signer.sign(), Err(RvError::DeviceRemoved));
        other_signer.sign().unwrap();
        let mut expected = before.clone();
        expected.retain(|slot| *slot != ours);
        assert_eq!(module.get_slots_with_token().unwrap(), expected);
        assert!(module.get_all_slots().unwrap().contains(&ours));
        assert!(!module.get_slot_info(ours).unwrap().token_present());
        let gone = Err(RvError::TokenNotPresent);
        assert_eq!(code(module.get_token_info(ours)).map(|_| ()), gone);
        assert_eq!(code(module.get_mechanism_list(ours)).map(|_| ()), gone);
        assert_eq!(code(module.open_ro_session(ours)).map(|_| ()), gone);
        assert!(control.ask("remove our token").starts_with("error: "));

        control.tell("insert our token");
        assert_eq!(module.get_slots_with_token().unwrap(), before);
        assert!(module.get_slot_info(ours).unwrap().token_present());
        assert_eq!(our_signer.sign(), Err(RvError::SessionHandleInvalid));
        Signer::new(&module, ours).sign().unwrap();
    });
}

#[test]
fn a_token_fails_and_is_healed() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        let (ours, other) = (token(&module, OURS), token(&module, OTHER));
        let (our_signer, other_signer) = (Signer::new(&module, ours), Signer::new(&module, other));
        control.tell("fail-token our token 0x30");
        let broken = Err(RvError::DeviceError);
        assert_eq!(our_signer.sign().map(|_| ()), broken);
        assert_eq!(code(module.open_ro_session(ours)).map(|_| ()), broken);
        other_signer.sign().unwrap();
        control.tell("heal-token our token");
        our_signer.sign().unwrap();
    });
}

#[test]
fn it_is_initialized_again() {
    faulty(|place| {
        let module = initialized();
        let mut control = Control::of(place);
        token(&module, OURS);
        token(&module, OTHER);
        control.tell("remove our token");
        module.finalize().unwrap();
        assert!(UnixStream::connect(socket(place)).is_err());

        let module = initialized();
        let labels = |module: &Pkcs11| -> Vec<String> {
            let slots = module.get_slots_with_initialized_token().unwrap();
            let label = |slot| module.get_token_info(slot).unwrap().label().to_owned();
            slots.into_iter().map(label).collect()
        };
        assert_eq!(labels(&module), [OTHER]);
        // The client from before is still there, and a new one may come.
        control.tell("insert our token");
        assert_eq!(labels(&module).len(), 2);
        assert_eq!(Control::of(place).ask("count C_Initialize"), "2");
    });
}

#[test]
fn it_starts_with_faults() {
    faulty_from("fail C_GetInfo 0x30 2; delay C_GetInfo 1", |_| {
        let module = initialized();
        module.get_library_info().unwrap();
        let second = code(module.get_library_info()).map(|_| ());
        assert_eq!(second, Err(RvError::DeviceError));
        module.get_library_info().unwrap();
    });
}

#[test]
fn two_processes_cannot_share_a_socket() {
    faulty(|place| {
        let module = initialized();
        let path = socket(place);
        assert!(path.exists());
        let test = "it_starts_with_faults";
        let output = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--test-threads=1"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let printed = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains("FAULTY_CONTROL="), "{printed}");
        module.finalize().unwrap();
        assert!(!path.exists());
    });
}

/// What it does to NSS, no other module needs.
#[test]
fn an_nss_token_is_initialized_as_pkcs11_has_it() {
    hsm_modules::on(&[&NSS], |_| {
        let module = initialized();
        let slots = module.get_slots_with_token().unwrap();
        let info = |slot| module.get_token_info(slot).unwrap();
        assert!(slots.iter().all(|slot| !info(*slot).token_initialized()));
        for (slot, label) in slots.iter().zip([OURS, OTHER]) {
            module.init_token(*slot, &pin(SO_PIN), label).unwrap();
            assert_eq!(info(*slot).label(), label);
            assert!(info(*slot).token_initialized() && !info(*slot).user_pin_initialized());
        }
        let session = module.open_rw_session(slots[0]).unwrap();
        session.login(UserType::So, Some(&pin(SO_PIN))).unwrap();
        session.init_pin(&pin(USER_PIN)).unwrap();
        session.logout().unwrap();
        assert!(info(slots[0]).user_pin_initialized());
        let refused = |user| code(session.login(user, Some(&pin(SO_PIN)))).unwrap_err();
        assert_eq!(refused(UserType::User), RvError::PinIncorrect);
        // Its security officer has done his work.
        assert_eq!(refused(UserType::So), RvError::UserTypeInvalid);
        session.login(UserType::User, Some(&pin(USER_PIN))).unwrap();
        assert!(!info(slots[2]).token_initialized());
        let labels = slots[..2].iter().map(|slot| info(*slot).label().to_owned());
        assert_eq!(labels.collect::<Vec<_>>(), [OURS, OTHER]);
    });
}
