//! One process, and with it one set of tokens, for a test.

use std::{
    any::type_name,
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use tempfile::TempDir;

use crate::{Place, Snapshot, TestModule};

/// Tells the child that it is one, and the module's name.
const MODULE: &str = "HSM_TEST_MODULE";
const FOLDER: &str = "HSM_TEST_FOLDER";

/// Runs the body of a test, a closure in the test's own function, once for each of `modules`: each
/// time in a process and with a folder of its own.
///
/// # Panics
/// The body does, or a module is not there: that is a failure and not a skip.
pub fn on<F: FnOnce(&Place)>(modules: &[&'static TestModule], body: F) {
    on_prepared(modules, |_, _| (), body);
}

/// As [`on`], with something done beforehand: to the folder, or to the child's environment.
///
/// # Panics
/// As for [`on`].
pub fn on_prepared<F: FnOnce(&Place)>(
    modules: &[&'static TestModule],
    prepare: impl Fn(&Place, &mut Command),
    body: F,
) {
    if let Some(place) = Place::of_this_process() {
        return body(&place);
    }
    let test = test_name::<F>();
    for module in modules {
        run(test, module, &prepare);
    }
}

/// The folder of one module's tokens, as a test leaves it: the one called `founding` in this program, whose body
/// is run with [`on`]. Tests that all need the same, and need long for it, begin with a copy
/// ([`on_founded`]). It is made when it is first needed.
///
/// # Panics
/// The test fails.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn founded(founding: &'static str, module: &'static TestModule) -> &'static Snapshot {
    type Cells = Mutex<HashMap<(&'static str, &'static str), &'static OnceLock<Snapshot>>>;
    static CELLS: LazyLock<Cells> = LazyLock::new(Cells::default);
    let cell = *CELLS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry((founding, module.name))
        .or_insert_with(|| Box::leak(Box::default()));
    cell.get_or_init(|| {
        let folder = run(founding, module, |_, _| ());
        Snapshot::take(folder.path(), &[""]).expect("what the test has left")
    })
}

/// As [`on`], in copies of what the test called `founding` leaves.
///
/// # Panics
/// The body does, or the other test fails.
pub fn on_founded<F: FnOnce(&Place)>(
    founding: &'static str,
    modules: &[&'static TestModule],
    body: F,
) {
    on_prepared(modules, |place, _| begin_as(founding, place), body);
}

/// Puts what the test called `founding` leaves into a place, for what is prepared in another way besides.
///
/// # Panics
/// The other test fails, or the place cannot be written.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn begin_as(founding: &'static str, place: &Place) {
    let files = founded(founding, place.module());
    files.write(place.folder()).expect("the folder is written");
    // With its own paths again.
    Place::at(place.module(), place.folder()).expect("the folder is written");
}

/// Runs a test of this program once, in a process and with a folder of its own, which is left as it is.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "what the child printed is the test's output, and a test fails by panicking"
)]
fn run(test: &str, module: &'static TestModule, prepare: impl Fn(&Place, &mut Command)) -> TempDir {
    module.library().expect("the module is there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = Place::at(module, folder.path()).expect("the folder can be written");
    let (variable, configuration) = place.variable();
    let mut child = Command::new(env::current_exe().expect("where is this program?"));
    child
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, configuration)
        .env(MODULE, module.name)
        .env(FOLDER, folder.path())
        .stdin(Stdio::null());
    prepare(&place, &mut child);
    let output = child.output().expect("this program runs again");
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{test} on {}: {}",
        module.name,
        output.status
    );
    // A wrong name runs no test, successfully.
    assert!(printed.contains("1 passed"), "{test} did not run");
    folder
}

impl Place {
    /// The place that this process was started for by [`on`].
    ///
    /// # Panics
    /// The folder is gone.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn of_this_process() -> Option<Self> {
        let (module, folder) = (env::var(MODULE).ok()?, env::var_os(FOLDER)?);
        let module = TestModule::called(&module).expect("the parent knows it");
        Some(Self::at(module, Path::new(&folder)).expect("the folder is there"))
    }
}

/// The library of the module that this process was started for by [`on`].
///
/// # Panics
/// It was not.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn library() -> PathBuf {
    let place = Place::of_this_process().expect("a process for a test on one module");
    place.module().library().expect("the module is there")
}

/// A closure's type is named after the function in which it stands: `binary::module::test::{{closure}}`.
fn test_name<F>() -> &'static str {
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::").map_or(path, |(_, test)| test)
}
