//! A ceremony is killed before each call that changes what the HSM holds: the next one goes on where it was, or begins
//! again, and nothing of a component is left in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hsm::{HsmError, ImportForm, KeyName, WrappedKey};
use hsm_modules::{
    KRYOPTIC, Place, SOFTHSM, TestModule,
    faults::{self, faulty_module},
};
use kdh_ceremony::{Ceremony, Mode, Plan};
use serde_json::Value;
use time::OffsetDateTime;
use tr34::KeyKind;

use crate::{
    bank::{self, founded},
    people::{PEOPLE, of_people},
    room::Room,
    site::{
        GIVE_OUT, IMPORT_WRAPPED, KEY, Site, assert_refused, assert_success, change,
        first_storage_keys, import_plan_with_files, library, printed, unattended,
    },
};

static BOTH: [&TestModule; 2] = [&SOFTHSM, &KRYOPTIC];

const CHANGES: [&str; 5] = [
    "C_CreateObject",
    "C_CopyObject",
    "C_DestroyObject",
    "C_UnwrapKey",
    "C_DeriveKey",
];

fn transcripts(site: &Site) -> Vec<PathBuf> {
    let files = site.files().into_keys();
    files
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .collect()
}

/// Each sitting's has a file of its own, which a sitting that was killed has begun.
fn put_transcripts_away(site: &Site) {
    for path in transcripts(site) {
        fs::remove_file(path).unwrap();
    }
}

/// The calls of each function at which a ceremony is killed, as the record of a whole one says: those of its acts. One
/// that is killed before has nothing but what its sessions hold.
struct Steps {
    before_the_acts: BTreeMap<String, u64>,
    in_all: BTreeMap<String, u64>,
    /// At most so many calls of a function, the last ones, are meant.
    last: u64,
}

impl Steps {
    fn of(record: &Path, last: u64) -> Self {
        let mut steps = Self {
            before_the_acts: BTreeMap::new(),
            in_all: BTreeMap::new(),
            last,
        };
        for line in fs::read_to_string(record).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let calls = line["detail"]["operations"]["kdh"].as_object();
            for (name, times) in calls.into_iter().flatten() {
                let function = name.split('(').next().unwrap();
                let times = times.as_u64().unwrap();
                *steps.in_all.entry(function.to_owned()).or_default() += times;
                if line["event"] == "token-opened" {
                    let before = &mut steps.before_the_acts;
                    *before.entry(function.to_owned()).or_default() += times;
                }
            }
        }
        steps
    }

    fn first(&self, function: &str) -> u64 {
        let count = |calls: &BTreeMap<String, u64>| calls.get(function).copied().unwrap_or(0);
        let last = count(&self.in_all).saturating_sub(self.last);
        count(&self.before_the_acts).max(last) + 1
    }
}

#[test]
fn a_killed_sitting_is_resumed_or_undone() {
    hsm_modules::on(&BOTH, |_| {
        let site = Site::new(&["kdh"]);
        let plan = unattended(&import_plan_with_files(&site));
        let second = "custodian = \"Second Custodian\"";
        let plan = change(&plan, second, &format!("{second}\nsitting = 2"));
        site.write_plan(PLAN, &plan);
        let name = KeyName::new(KEY).unwrap();
        let steps = [1, 2].map(|_| {
            put_transcripts_away(&site);
            assert_success(&site.execute_with_faults(PLAN, ""));
            Steps::of(&transcripts(&site)[0], u64::MAX)
        });
        site.token("kdh").destroy_key(&name).unwrap();
        put_transcripts_away(&site);
        for (sitting, change) in (1..=2).flat_map(|s| CHANGES.map(|change| (s, change))) {
            for nth in steps[sitting - 1].first(change).. {
                if sitting == 2 {
                    assert_success(&site.execute_with_faults(PLAN, ""));
                    put_transcripts_away(&site);
                }
                let die = format!("die {change} {nth}");
                let output = site.execute_with_faults(PLAN, &die);
                let killed = output.status.signal().is_some();
                assert!(killed || output.status.success(), "{}", printed(&output));

                // The same plan, until there is the key and nothing else.
                let is_over = || {
                    let sums = site.token("kdh").stored_sums().unwrap();
                    site.keys("kdh") == [KEY] && sums.is_empty()
                };
                for _ in 0..2 {
                    if !is_over() {
                        put_transcripts_away(&site);
                        assert_success(&site.execute_with_faults(PLAN, ""));
                    }
                }
                assert!(is_over(), "{sitting} {die}: {:?}", site.keys("kdh"));
                site.token("kdh").destroy_key(&name).unwrap();
                put_transcripts_away(&site);
                if !killed {
                    break;
                }
            }
        }
    });
}

/// Tells a process in which folder it runs a plan, with people who write down what they are shown.
const FOLDER: &str = "KDH_TEST_KILLED_IN";
const PLAN: &str = "plan.toml";

/// A process that may be killed.
#[test]
fn people_in_a_process_of_their_own() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let now = OffsetDateTime::now_utc();
    let plan = Plan::load(&Path::new(&folder).join(PLAN), Mode::Real, now).unwrap();
    let mut room = Room::new([]);
    room.writes_down();
    if let Err(error) = Ceremony::run(&plan, &mut room, &OffsetDateTime::now_utc) {
        panic!("{error}");
    }
}

/// Runs the plan in such a process, with a module with faults before the real one.
fn run_with_people(site: &Site, start: &str) -> Output {
    let module = Place::of_this_process().unwrap().module();
    let test = "killed::people_in_a_process_of_their_own";
    Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, site.folder())
        .env("FAULTY_MODULE", module.library().unwrap())
        .env(faults::START, start)
        .output()
        .unwrap()
}

fn write_plan_with_faults(site: &Site, plan: &str) {
    site.write_plan(PLAN, plan);
    let faulty = faulty_module().unwrap();
    let text = site.read(PLAN);
    fs::write(
        site.path(PLAN),
        text.replace(&library(), faulty.to_str().unwrap()),
    )
    .unwrap();
}

/// Kills it before each of these calls, and once not at all. What was made then and is not on the record goes when it
/// is started again, which makes the keys and leaves nothing else. Returns what such kills have left of the keys.
fn assert_made_after_each_kill(
    site: &Site,
    (keys, others): (&[&str], &[&str]),
    (changes, last): (&[&str], u64),
    run: impl Fn(&str) -> Output,
) -> BTreeSet<Vec<String>> {
    let mut expected = [others, keys].concat();
    expected.sort_unstable();
    let notes = || site.token("kdh").list_records("making.").unwrap();
    let destroy = || {
        let token = site.token("kdh");
        for key in keys {
            token.destroy_key(&KeyName::new(key).unwrap()).unwrap();
        }
    };
    assert_success(&run(""));
    let steps = Steps::of(&transcripts(site)[0], last);
    put_transcripts_away(site);
    destroy();
    let mut undone = BTreeSet::new();
    for change in changes {
        for nth in steps.first(change).. {
            let die = format!("die {change} {nth}");
            let output = run(&die);
            let killed = output.status.signal().is_some();
            assert!(killed || output.status.success(), "{}", printed(&output));
            let left = site.keys("kdh");
            if killed && left == others && notes().is_empty() {
                // Nothing was made: it begins as it began.
                put_transcripts_away(site);
                continue;
            }
            let record: Vec<_> = transcripts(site).iter().map(fs::read_to_string).collect();
            let is_on_record = |text: &str| text.contains("\"event\":\"finished\"");
            let stands = record.iter().flatten().any(|text| is_on_record(text));
            put_transcripts_away(site);
            if killed && !stands {
                assert_success(&run(""));
                let record = fs::read_to_string(&transcripts(site)[0]).unwrap();
                let destroyed = record.contains("unfinished-key-destroyed");
                assert_eq!(destroyed, left != others, "{die}: {record}");
                if destroyed {
                    undone.insert(left);
                }
                put_transcripts_away(site);
            }
            assert_eq!(site.keys("kdh"), expected, "{die}");
            assert_eq!(notes(), [""; 0], "{die}");
            destroy();
            if !killed {
                break;
            }
        }
    }
    let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
    assert!(
        undone.contains(&expected),
        "it was never killed between the keys and the record: {undone:?}"
    );
    undone
}

#[test]
fn a_killed_import_at_one_sitting_is_undone() {
    hsm_modules::on(&BOTH, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan(PLAN, &unattended(&import_plan_with_files(&site)));
        assert_made_after_each_kill(&site, (&[KEY], &[]), (&CHANGES, u64::MAX), |die| {
            site.execute_with_faults(PLAN, die)
        });
    });
}

#[test]
fn a_killed_import_of_a_wrapped_key_is_undone() {
    hsm_modules::on(&BOTH, |_| {
        let site = Site::new(&["kdh"]);
        let kcv = {
            let token = site.token("kdh");
            let zmk = KeyName::new("zmk.switch").unwrap();
            let made = token
                .make_up_import(ImportForm::Zmk, &zmk, KeyKind::Aes128)
                .unwrap();
            let none = KeyName::new("kn.none").unwrap();
            let Err(HsmError::KcvMismatch { found, .. }) = token.import_key(&made, &none) else {
                panic!("another check value than that of the key")
            };
            let WrappedKey::Zmk { key, .. } = made.wrapped else {
                panic!("another form than was asked for")
            };
            fs::write(site.path("switch-two.bin"), key.bytes).unwrap();
            found.to_string()
        };
        let from = IMPORT_WRAPPED.find("# A transport key").unwrap();
        let acts: Vec<_> = IMPORT_WRAPPED.split("[[acts]]").collect();
        let plan = format!("{}[[acts]]{}", &IMPORT_WRAPPED[..from], acts[2]);
        let plan = change(&plan, "\"AES-256\"", "\"AES-128\"");
        let plan = change(&plan, "\"A1B2C3\"", &format!("\"{kcv}\""));
        site.write_plan(PLAN, &unattended(&plan));
        // Before it imports, the module is tried out, with many calls.
        let keys: (&[_], &[_]) = (&["kn.switch-two"], &["zmk.switch"]);
        assert_made_after_each_kill(&site, keys, (&CHANGES, 6), |die| {
            site.execute_with_faults(PLAN, die)
        });
    });
}

#[test]
fn storage_keys_whose_making_was_killed_are_undone() {
    hsm_modules::on(&BOTH, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan(PLAN, &unattended(&first_storage_keys()));
        let changes = ["C_CreateObject", "C_DestroyObject", "C_GenerateKey"];
        let pair: (&[_], &[_]) = (&["ksk.1", "ksm.1"], &[]);
        // Before they are made, the module is tried out, with many calls.
        let undone = assert_made_after_each_kill(&site, pair, (&changes, 3), |die| {
            site.execute_with_faults(PLAN, die)
        });
        assert!(undone.contains(&vec!["ksk.1".to_owned()]), "{undone:?}");

        // The same where the HSM fails: at either key, and when they are tried.
        assert_success(&site.execute_with_faults(PLAN, ""));
        let steps = Steps::of(&transcripts(&site)[0], 3);
        for key in pair.0 {
            let name = KeyName::new(key).unwrap();
            site.token("kdh").destroy_key(&name).unwrap();
        }
        for nth in (steps.first("C_GenerateKey")..).take(3) {
            put_transcripts_away(&site);
            let fail = format!("fail C_GenerateKey 0x30 {nth}");
            let output = site.execute_with_faults(PLAN, &fail);
            assert_refused(&output, "act 1 (storage-keys) failed: HSM: ");
            let records = site.token("kdh").list_records("making.").unwrap();
            assert_eq!((site.keys("kdh"), records), (vec![], vec![]), "{fail}");
        }
    });
}

/// Killed before there was a key; then another plan, which takes no notes, makes it.
#[test]
fn the_key_of_another_plan_is_not_undone() {
    hsm_modules::on(&BOTH, |_| {
        let site = Site::new(&["kdh"]);
        let plan = unattended(&import_plan_with_files(&site));
        let second = "custodian = \"Second Custodian\"";
        let at_two_sittings = change(&plan, second, &format!("{second}\nsitting = 2"));
        site.write_plan(PLAN, &plan);
        site.write_plan("other.toml", &at_two_sittings);
        let notes = || site.token("kdh").list_records("making.").unwrap();
        for nth in 1.. {
            let output = site.execute_with_faults(PLAN, &format!("die C_CreateObject {nth}"));
            assert!(output.status.signal().is_some(), "{}", printed(&output));
            put_transcripts_away(&site);
            if !notes().is_empty() {
                break;
            }
        }
        assert_eq!(site.keys("kdh"), [""; 0]);

        assert_success(&site.execute("other.toml"));
        assert_success(&site.execute("other.toml"));
        put_transcripts_away(&site);
        assert_eq!(site.keys("kdh"), [KEY]);
        let again = site.execute_with_faults(PLAN, "");
        assert_refused(&again, "a key called kn.acquirer-tmk exists");
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

/// Two custodians are enough for a test.
fn give_out() -> &'static str {
    &GIVE_OUT[..GIVE_OUT.rfind("[[acts.components]]").unwrap()]
}

#[test]
fn a_key_whose_giving_out_was_killed_is_given_out_anew() {
    hsm_modules::on(&BOTH, |_| {
        let site = Site::new(&["kdh"]);
        write_plan_with_faults(&site, give_out());
        let keys: (&[_], &[_]) = (&["kn.switch-zone"], &[]);
        assert_made_after_each_kill(&site, keys, (&CHANGES, u64::MAX), |die| {
            run_with_people(&site, die)
        });
    });
}

/// Killed before each signature: of who confirms, of who was shown a component, and of the seal.
#[test]
fn a_record_that_was_cut_off_says_so_and_is_whole_with_the_next_one() {
    bank::on(&BOTH, |_| {
        let site = founded();
        write_plan_with_faults(&site, &of_people(give_out(), &PEOPLE[..2]));
        let transcript = "give-out-transcript.jsonl";
        let verify = |transcripts: &[&str]| {
            let arguments = [&["verify"], transcripts, &["--ca", "ca-ops.pem"]];
            site.program(&arguments.concat(), "")
        };
        let name = KeyName::new("kn.switch-zone").unwrap();
        let (mut kept, mut shown) = (Vec::new(), BTreeSet::new());
        for nth in 1.. {
            let output = run_with_people(&site, &format!("die C_Sign {nth}"));
            if output.status.signal().is_none() {
                assert_success(&output);
                break;
            }
            if !site.exists(transcript) {
                // Nothing was opened.
                continue;
            }
            let cut = verify(&[transcript]);
            let told = printed(&cut);
            for said in [
                "MISSING: The audit key did not seal it: it says nothing of why.",
                "First Custodian confirmed the plan by its digest. Signed.",
                "Second Custodian confirmed the plan by its digest. Signed.",
            ] {
                assert_refused(&cut, said);
            }
            if told.contains("The ceremony finished.") {
                // Everything was done, and nothing says that it is all.
                assert_eq!(told.matches("MISSING").count(), 1, "{told}");
                site.token("kdh").destroy_key(&name).unwrap();
                shown.insert("all of it");
            } else {
                assert_refused(&cut, "MISSING: It breaks off: the last that it says is \"");
                assert!(!told.contains("made the key"), "{told}");
                let components = ["nothing", "was shown component 1", "was shown component 2"];
                let last = components.into_iter().rfind(|part| told.contains(part));
                shown.insert(last.unwrap_or(components[0]));
            }
            let name = format!("cut-{nth}.jsonl");
            fs::rename(site.path(transcript), site.path(&name)).unwrap();
            kept.push(name);
        }
        let all = ["all of it", "nothing", "was shown component 1"];
        assert!(all.iter().all(|part| shown.contains(part)), "{shown:?}");

        assert_success(&verify(&[transcript]));
        let cut = kept[0].clone();
        kept.push(transcript.to_owned());
        let all: Vec<_> = kept.iter().map(String::as_str).collect();
        let whole = verify(&[&cut, transcript]);
        assert_success(&whole);
        let note = "Note: Sitting 1 was stopped, and held again: It breaks off: the last that it says is \"";
        assert!(printed(&whole).contains(note), "{}", printed(&whole));
        // What was done to its end and not sealed is no sitting that was stopped.
        assert_refused(&verify(&all), "MISSING: The audit key did not seal it");
        assert_refused(&verify(&[transcript, &cut]), "this sitting began before");
    });
}
