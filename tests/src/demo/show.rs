//! The story itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use hsm_modules::TestModule;
use serde_json::Value;
use system_tests::{
    host::{Host, HostOptions},
    master_key::MasterKey,
    operator::text,
    own_keys::ProfileSlot,
    place::Place,
    programs::Programs,
    secret_file,
    site::{KEY_OFFICER, OPERATOR, Site, Topology},
    terminal::{Terminal, TerminalOptions},
};
use tr34::KeyKind;

use crate::narrator::Narrator;

const DEVICE: &str = "SN-1001";
const TRIAL_DEVICE: &str = "SN-2002";
const KEY: &str = "demo-tmk";
const SLOT: &str = "tmk";
/// For a key of the terminal's own.
const OWN_SLOT: &str = "pin";
/// A key that arrives encrypted, and the one over it.
const ARRIVED_KEY: &str = "arrived-tmk";
const ZMK: &str = "zmk.sender";
/// A token by file.
pub(crate) const ONE_PASS: &str = "one-pass.pem";
/// The second operator's command.
pub(crate) const KEY_OFFICERS_KDHCTL: &str = "kdhctl-key-officer";

/// The host refuses to send an AES key to a weaker one.
const TERMINAL: TerminalOptions = TerminalOptions {
    rsa_bits: 3072,
    ..TerminalOptions::DEFAULT
};

/// What arrived where.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) terminal: Terminal,
    pub(crate) device: &'static str,
    pub(crate) key: String,
    pub(crate) kcv: String,
}

/// Where the programs' logs are.
pub(crate) fn logs(folder: &Path) -> PathBuf {
    folder.join("site").join("logs")
}

/// Tokens, ceremonies, safe.
pub(crate) fn prepare(
    narrator: &mut Narrator,
    folder: &Path,
    programs: &Programs,
    module: &'static TestModule,
) -> Result<(Site, MasterKey)> {
    let shown = folder.join("site");
    let shown = shown.display();
    narrator.step("Empty tokens");
    let site = Site::create(&folder.join("site"), programs, Topology::TwoSubCas, module)?;
    site.make_tokens()?;
    narrator.say(&format!(
        "{} stands in for the HSMs. Four tokens, each with a PIN of its own, lie in the\n\
         ceremony room, {shown}/ceremony: root, issuing, kdh, operator.",
        module.title
    ));

    narrator.step("The first ceremony: certificates");
    site.hold_pki_ceremony()?;
    narrator.say(&format!(
        "kdh-ceremony executed the plan {shown}/ceremony/pki.toml.\n\
         Token root:     the root CA, which certified the three CAs below.\n\
         Token issuing:  the CA of terminals, the CA of hosts, and the CA of operations.\n\
         Token kdh:      the key that will sign key tokens, and the host's key for TLS.\n\
         Token operator: the operators' keys.\n\
         Every key was made in its token and cannot leave it. Certificates and revocation\n\
         lists are in {shown}/pki. This took {}.",
        narrator.took()
    ));

    narrator.step("The second ceremony: Kn, the key for the terminal");
    let key = MasterKey::generate(KEY, KeyKind::Aes128)?;
    site.hold_key_ceremony(std::slice::from_ref(&key))?;
    narrator.say(&format!(
        "Two custodians brought a component each ({shown}/custodians). The HSM combined\n\
         them: the AES-128 key {} was put together inside token kdh and has never been\n\
         outside. Its check value is {}, as the custodians expected.",
        key.label(),
        key.kcv()?
    ));

    narrator.step("The root goes into the safe");
    site.carry_tokens_away()?;
    narrator.say(&format!(
        "Its token was moved to {shown}/offline-safe, which no program below can reach.\n\
         The tokens issuing and kdh are in {shown}/hsm now, the operators' in\n\
         {shown}/operators."
    ));
    Ok((site, key))
}

/// A key that another system shares with the HSM, to send others under it.
pub(crate) fn prepare_sender(narrator: &mut Narrator, site: &Site, folder: &Path) -> Result<()> {
    narrator.step("The third ceremony: a ZMK, under which another system sends keys");
    let zmk = MasterKey::generate("zmk", KeyKind::Aes256)?;
    site.bring_in(&[(ZMK, &zmk)])?;
    let sender = site.folder().join("sender");
    fs::create_dir(&sender)?;
    secret_file::write(&sender.join("zmk.hex"), &hex::encode_upper(zmk.value()))?;
    narrator.say(&format!(
        "The HSM has it as {ZMK}, from two components again. The other system is played by\n\
         OpenSSL, and has the same key in the file {}/zmk.hex.\n\
         A real sender keeps it in an HSM: never do it so with a real key.",
        folder.join("site").join("sender").display()
    ));
    Ok(())
}

/// The host serves, and knows the key.
pub(crate) fn start_host(narrator: &mut Narrator, site: &Site, key: &MasterKey) -> Result<Host> {
    narrator.step("The host starts");
    let options = HostOptions {
        key_strength: "require",
        ..HostOptions::default()
    };
    let host = site.start_host(&options)?;
    narrator.say(&format!(
        "kdh-host sealed and opened a throw-away key in the HSM, and serves now:\n\
         terminals on {}, operators on {}. It holds {} MiB of memory.",
        host.addresses().terminals,
        host.addresses().administration,
        host.resident_kib().unwrap_or_default() / 1024
    ));
    narrator.step("An operator makes the key known");
    let known = site.register_key(key)?;
    narrator.say(&format!(
        "kdhctl key register: the HSM computed the check value of {} itself; the host would have\n\
         refused another than {}.",
        text(&known, "/name")?,
        key.kcv()?
    ));
    Ok(host)
}

/// From an operator's order to a confirmed key.
pub(crate) fn deliver(narrator: &mut Narrator, site: &Site, key: &MasterKey) -> Result<Delivered> {
    narrator.step("An operator expects a terminal");
    let code = site.add_device(DEVICE)?;
    site.assign_key(DEVICE, SLOT, key)?;
    narrator.say(&format!(
        "kdhctl device add, key assign, device code: the host knows that a terminal {DEVICE}\n\
         will come, and which key it shall have. Whoever installs it got a code that works once."
    ));

    narrator.step("krd keygen: the terminal makes its keys");
    let terminal = site.make_terminal(DEVICE, TERMINAL)?;
    terminal.act(&["keygen"])?;
    narrator.say(
        "In a token of its own, which stands in for the terminal's secure chip: an RSA key that\n\
         decrypts, and a P-256 key for TLS and receipts. Neither can leave it.",
    );

    narrator.step("krd enroll: the host certifies them");
    terminal.take_code(&code)?;
    terminal.enroll().succeed()?;
    narrator.say(&format!(
        "The host checked the serial number, the code and that the terminal has the private\n\
         keys; the CA's key signed in the HSM. The terminal has a CT_KRD and a TLS certificate.\n\
         This took {}.",
        narrator.took()
    ));

    narrator.step("krd bind: both sides prove who they are");
    terminal.act(&["bind"])?;
    narrator.say(&format!(
        "Over mutual TLS the terminal showed its CT_KRD and got CT_KDH: the host's certificate\n\
         with the revocation list. From now on it takes keys from this host only. This took {}.",
        narrator.took()
    ));

    narrator.step("krd load: the key arrives");
    terminal.act(&["load"])?;
    narrator.say(&format!(
        "The terminal sent a random number (RT_KRD). Inside the HSM a key Ke was made, Kn was\n\
         sealed under Ke and Ke under the terminal's key; the host signed the token (KT_KDH).\n\
         The terminal checked revocation list, signature, random number, names and header,\n\
         loaded Kn, and sent its check value in a signed receipt. This took {}.\n{}",
        narrator.took(),
        match site.terminal_module().can.opening {
            [] => {
                "This token cannot open the key block inside: as its configuration accepts, Kn was in\n\
                 the memory of krd for a moment (open-in-process-memory)."
            }
            _ => "The token opened the key block inside: Kn was never in the memory of krd.",
        }
    ));

    narrator.step("What both sides say");
    let held = terminal
        .slot(SLOT)?
        .context("the terminal's slot is empty")?;
    let kcv = text(&held, "/kcv")?.to_owned();
    let expected = key.kcv()?;
    ensure!(
        kcv == expected,
        "the terminal holds a key with the check value {kcv}, not {expected}"
    );
    let deliveries = site.deliveries(DEVICE)?;
    ensure!(
        deliveries == ["CONFIRMED"],
        "the deliveries are {deliveries:?}"
    );
    let records = site.verify_audit()?;
    narrator.say(&format!(
        "Terminal: slot {SLOT} holds a key with the check value {kcv}.\n\
         Host:     the delivery is CONFIRMED.\n\
         Auditor:  {records} records, each chained to the one before; none was altered."
    ));
    Ok(Delivered {
        terminal,
        device: DEVICE,
        key: key.name.clone(),
        kcv,
    })
}

/// A key that no other terminal has, the next one in its place, and new keys under which such keys lie.
pub(crate) fn replace_own_key(
    narrator: &mut Narrator,
    site: &Site,
    terminal: &Terminal,
) -> Result<()> {
    narrator.step("A key of the terminal's own, and the next one");
    carry_own_profile(site)?;
    let load = || -> Result<String> {
        site.assign_by_profile(DEVICE, OWN_SLOT)?;
        terminal.act(&["load", OWN_SLOT])?;
        let held = terminal.slot(OWN_SLOT)?.context("the slot is empty")?;
        Ok(text(&held, "/kcv")?.to_owned())
    };
    let [first, second] = [load()?, load()?];
    ensure!(first != second, "the HSM made the same key twice");
    narrator.say(&format!(
        "kdhctl profile put, profile assign: the terminal's model carries a key profile. It says that\n\
         slot {OWN_SLOT} has an AES-128 key for PINs, which the HSM makes for each terminal alone.\n\
         kdhctl key assign --by-profile, krd load: version 1 has the check value {first}. Then once more:\n\
         version 2 has {second}. When the terminal confirmed it, the host destroyed version 1."
    ));

    narrator.step("New storage keys, for which it takes two operators");
    let before = present_pair(&site.operate(&["storage", "status"])?["pairs"])?;
    site.approve_rotation()?;
    let pair = present_pair(&site.watch_rotation()?)?;
    ensure!(pair > before, "pair {before} is still the present one");
    narrator.say(&format!(
        "The database holds terminals' keys encrypted under ksk.{before}, and their rows sealed by ksm.{before}.\n\
         kdhctl storage rotate, and approval approve by another operator: the HSM made pair {pair} and\n\
         brought each key under it, inside. Pair {before} is destroyed. This took {}.",
        narrator.took()
    ));
    Ok(())
}

fn carry_own_profile(site: &Site) -> Result<()> {
    site.carry_profile(&[ProfileSlot {
        name: OWN_SLOT.to_owned(),
        header: "D0000P0AE00N0000",
        kind: KeyKind::Aes128.to_string(),
        more: "renewal-days = 180",
    }])
}

fn present_pair(pairs: &Value) -> Result<u64> {
    let mut pairs = pairs.as_array().into_iter().flatten();
    let present = pairs.find(|pair| pair["state"] == "PRESENT");
    let number = present.and_then(|pair| pair["number"].as_u64());
    number.context("there are no storage keys")
}

/// Copies what was made and sent to where everybody can look at it.
pub(crate) fn collect_evidence(narrator: &mut Narrator, site: &Site, folder: &Path) -> Result<()> {
    narrator.step("Evidence");
    let evidence = folder.join("evidence");
    fs::create_dir_all(evidence.join("logs"))?;
    let made = [
        "root.pem",
        "ca-krd.pem",
        "ca-kdh.pem",
        "kdh.pem",
        "crl-ca-kdh.der",
    ];
    let sent = [
        "krd.pem",
        "ct-krd.der",
        "ct-kdh.der",
        "rt-krd.der",
        "kt-kdh.der",
    ];
    let terminal = site
        .folder()
        .join("terminals")
        .join(DEVICE)
        .join("evidence");
    let made = made.map(|name| (site.pki(name), name));
    let sent = sent.map(|name| (terminal.join(name), name));
    for (from, name) in made.into_iter().chain(sent) {
        fs::copy(&from, evidence.join(name))
            .with_context(|| format!("{} is missing", from.display()))?;
    }
    for entry in fs::read_dir(site.folder().join("logs"))? {
        let entry = entry?;
        fs::copy(entry.path(), evidence.join("logs").join(entry.file_name()))?;
    }
    let shown = evidence.display();
    narrator.say(&format!(
        "Certificates, revocation list, tokens and logs are in {shown}. For example:\n\
         openssl asn1parse -inform DER -i -in {shown}/kt-kdh.der\n\
         openssl crl -inform DER -noout -text -in {shown}/crl-ca-kdh.der\n"
    ));
    Ok(())
}

/// A second terminal for whoever tries it, and short commands in the demonstration's folder.
pub(crate) fn prepare_trial(
    narrator: &mut Narrator,
    site: &Site,
    key: &MasterKey,
    folder: &Path,
) -> Result<()> {
    narrator.step("A terminal to try");
    let code = site.add_device(TRIAL_DEVICE)?;
    site.assign_key(TRIAL_DEVICE, SLOT, key)?;
    carry_own_profile(site)?;
    site.assign_by_profile(TRIAL_DEVICE, OWN_SLOT)?;
    let terminal = site.make_terminal(TRIAL_DEVICE, TERMINAL)?;
    terminal.take_code(&code)?;
    for (name, operator) in [("kdhctl", OPERATOR), (KEY_OFFICERS_KDHCTL, KEY_OFFICER)] {
        let kdhctl = site.programs().path("kdhctl");
        let configuration = site.write_operator_configuration(operator)?;
        let file = folder.join(name);
        write_command(&file, &kdhctl, &site.operators()?, &configuration)?;
    }
    let krd = site.programs().path("krd");
    let configuration = terminal.configuration();
    write_command(&folder.join("krd"), &krd, terminal.place(), &configuration)?;
    let shown = folder.display();
    narrator.say(&format!(
        "{TRIAL_DEVICE} is registered, has an empty token and an activation code in a file. For its\n\
         slot {SLOT} the key {} is assigned, and for {OWN_SLOT} a key that the HSM has made for it alone,\n\
         as the key profile of its model says. {shown}/kdhctl and {shown}/krd are the real commands\n\
         with their configuration and token filled in. {shown}/{KEY_OFFICERS_KDHCTL} is\n\
         kdhctl as another operator, with the role keys: what two have to do, none does alone.{}",
        key.name,
        match site.terminal_module().can.opening {
            [] => {
                "\n\
                 krd warns of what its token cannot do: it has RSA-OAEP with SHA-1 only, and does not open the key\n\
                 block inside. With ./dev up --hsm kryoptic it does."
            }
            _ => "",
        }
    ));
    Ok(())
}

/// What to try, as it can be pasted.
pub(crate) fn commands(folder: &Path) -> String {
    let demo = folder.display();
    let one_pass = folder.join(ONE_PASS);
    let one_pass = one_pass.display();
    let sender = folder.join("site").join("sender");
    let sender = sender.display();
    let terminal = [
        format!("{demo}/krd keygen"),
        format!(
            "{demo}/krd enroll --code-file {demo}/site/terminals/{TRIAL_DEVICE}/activation-code"
        ),
        format!("{demo}/krd bind"),
        format!("{demo}/krd load"),
        format!("{demo}/krd status"),
        format!("{demo}/kdhctl device list"),
        format!("{demo}/kdhctl device show {TRIAL_DEVICE}"),
        format!("{demo}/kdhctl delivery list"),
    ];
    let changed = folder.join("site").join("changed.toml");
    let changed = changed.display();
    let own = [
        format!("{demo}/kdhctl profile show own --out {changed}"),
        format!("sed -i 's/^renewal-days.*/renewal-days = 90/' {changed}"),
        format!("{demo}/kdhctl profile put {changed} --dry-run"),
        format!("{demo}/kdhctl key assign --device {TRIAL_DEVICE} --slot {OWN_SLOT} --by-profile"),
        format!("{demo}/krd load {OWN_SLOT}"),
        format!("{demo}/kdhctl device show {TRIAL_DEVICE}"),
        format!("{demo}/kdhctl storage rotate --why \"to try it\""),
        format!(
            "{demo}/{KEY_OFFICERS_KDHCTL} approval approve \
             $({demo}/kdhctl approval list | awk '/ROTATION.* ASKED / {{ print $1 }}')"
        ),
        format!("{demo}/kdhctl storage watch"),
        format!("{demo}/kdhctl storage status"),
    ];
    let arrival = [
        format!("openssl rand -out {sender}/key.clear 16"),
        format!(
            "openssl enc -id-aes256-wrap -iv A6A6A6A6A6A6A6A6 -K $(cat {sender}/zmk.hex) \
             -in {sender}/key.clear -out {sender}/key.wrapped"
        ),
        format!(
            "head -c 16 /dev/zero | openssl mac -cipher AES-128-CBC -macopt \
             hexkey:$(od -An -tx1 -v {sender}/key.clear | tr -d ' ') CMAC | cut -c 1-6 > {sender}/kcv"
        ),
        format!(
            "{demo}/kdhctl import zmk {ARRIVED_KEY} --kind AES-128 --header D0000K0AB00E0000 \
             --kcv $(cat {sender}/kcv) --zmk {ZMK} --wrapped {sender}/key.wrapped --why \"to try it\""
        ),
        format!("{demo}/kdhctl import list"),
        format!(
            "{demo}/{KEY_OFFICERS_KDHCTL} import approve \
             $({demo}/kdhctl import list | awk '/ {ARRIVED_KEY} / {{ print $1 }}')"
        ),
        format!(
            "{demo}/kdhctl key assign --device {TRIAL_DEVICE} --slot arrived --key {ARRIVED_KEY}"
        ),
        format!("{demo}/krd load arrived"),
    ];
    let by_file = [
        format!(
            "{demo}/kdhctl token one-pass --device {TRIAL_DEVICE} --slot {SLOT} --out {one_pass}"
        ),
        format!("{demo}/kdhctl token inspect {one_pass}"),
        format!("{demo}/krd load --from {one_pass}"),
        format!("{demo}/kdhctl device unbind {TRIAL_DEVICE} --why \"goes to the repair shop\""),
        format!("{demo}/krd load"),
        format!("{demo}/kdhctl audit list"),
        format!("{demo}/kdhctl audit verify"),
    ];
    format!(
        "Try, in this folder:\n\n{}\n\
         Slot {OWN_SLOT} has a key that no other terminal has: what its profile says, the next version of it,\n\
         and new storage keys for all that the database holds, which another operator approves:\n\n{}\n\
         A key arrives encrypted. One operator asks for it, and another one approves, who compares\n\
         its check value with the sender's ({sender}/kcv); approved by the first one, it is refused:\n\n\
         {}\n\
         A key by file, and the end:\n\n{}\n\
         What else there is to try, keys for a payment switch and DUKPT among it, is in docs/export.md and\n\
         docs/keys.md, under \"On the demonstration's host\".\n\
         The host's log is {demo}/site/logs/kdh-host.log. To stop it: ./dev down",
        indented(&terminal),
        indented(&own),
        indented(&arrival),
        indented(&by_file)
    )
}

fn indented(commands: &[String]) -> String {
    let lines = commands.iter().map(|command| format!("  {command}\n"));
    lines.collect()
}

/// `program` with its configuration and the tokens of a place filled in.
fn write_command(file: &Path, program: &Path, place: &Place, configuration: &Path) -> Result<()> {
    let (variable, tokens) = place.variable();
    let script = format!(
        "#!/bin/sh\n{variable}='{}' exec '{}' --config '{}' \"$@\"\n",
        tokens.display(),
        program.display(),
        configuration.display()
    );
    fs::write(file, script)?;
    Ok(fs::set_permissions(
        file,
        fs::Permissions::from_mode(0o755),
    )?)
}
