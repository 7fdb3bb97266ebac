//! A key that is made in the HSM and leaves in components.

use hsm::{ClearKey, KcvMethod, KeyRole};
use kdh_ceremony::CeremonyError;
use tr34::KeyKind;

use crate::{
    common::{as_held, on_every_module},
    room::Room,
    site::{GIVE_OUT, Site, change, keeps_records},
};

const KEY: &str = "kn.switch-zone";
const TRANSCRIPT: &str = "give-out-transcript.jsonl";

/// Two custodians are enough for a test.
fn plan(kind: &str) -> String {
    let last = GIVE_OUT.rfind("[[acts.components]]").unwrap();
    change(&GIVE_OUT[..last], "\"AES-128\"", &format!("\"{kind}\""))
}

#[test]
fn components_are_shown_to_one_each_and_their_sum_is_the_key() {
    on_every_module(|place| {
        let mut kinds = vec!["AES-128", "AES-256"];
        if place.module().can.tdea {
            kinds.extend(["TDEA-2KEY", "TDEA-3KEY"]);
        }
        let site = Site::new(&["kdh"]);
        for (number, kind) in kinds.into_iter().enumerate() {
            let label = format!("{KEY}{number}");
            let transcript = format!("{number}.jsonl");
            let plan = change(&plan(kind), KEY, &label);
            site.write_plan("plan.toml", &change(&plan, TRANSCRIPT, &transcript));
            let mut room = Room::new([]);
            room.writes_down();
            room.run(&site, "plan.toml").unwrap();
            let order = [
                "[alone: First Custodian]",
                "shown: First Custodian, component 1 of 2",
                "hidden: First Custodian, component 1 of 2",
                "[parted]",
                "[alone: Second Custodian]",
                "shown: Second Custodian, component 2 of 2",
                "hidden: Second Custodian, component 2 of 2",
                "[parted]",
                "to be announced with the components",
            ];
            room.assert_order(&order);

            let shown = room.revealed();
            assert_eq!(shown.len(), 2);
            let transcript = site.read(&transcript);
            for component in &shown {
                for half in [&component[..16], &component[component.len() - 16..]] {
                    assert!(!transcript.contains(half), "{kind}");
                }
            }
            // The other bank combines what the custodians wrote down.
            let token = site.token("kdh");
            let kind = KINDS
                .into_iter()
                .find(|known| known.name() == kind)
                .unwrap();
            let name = hsm::KeyName::new(&label).unwrap();
            let key = token.secret_key(KeyRole::TransportKey, &name).unwrap();
            assert_eq!(key.kind(), kind);
            let kcv = token.kcv(&key).unwrap();
            assert_eq!(kcv.method(), KcvMethod::for_key(kind));
            assert!(
                room.seen()
                    .contains(&format!("announced with the components: {kcv}"))
            );
            let mut again = token.combine_components(kind).unwrap();
            for component in &shown {
                let own = again.add(ClearKey::from_hex(component).unwrap()).unwrap();
                assert!(
                    room.seen().contains(&format!(", {own}\n")),
                    "{}",
                    room.seen()
                );
            }
            let copy = hsm::KeyName::new("kn.copy").unwrap();
            let _key = again.finish(&copy, &kcv).unwrap();
            token.destroy_key(&copy).unwrap();
            if matches!(kind, KeyKind::Tdea2 | KeyKind::Tdea3) {
                let bytes = ClearKey::from_hex(&shown[0]).unwrap();
                let odd = bytes
                    .expose_clear()
                    .iter()
                    .all(|byte| byte.count_ones() % 2 == 1);
                assert!(odd, "parity of a component of {kind}");
                assert_eq!(
                    as_held(place, kind, bytes.expose_clear()),
                    bytes.expose_clear()
                );
            }
            let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
            assert_eq!(verified.last_event, "finished");
            assert_eq!(transcript.matches("component-shown").count(), 2);
        }
        let records = site.token("kdh").list_records("custody.").unwrap();
        assert_eq!(records.is_empty(), !keeps_records());
    });
}

const KINDS: [KeyKind; 5] = [
    KeyKind::Aes128,
    KeyKind::Aes192,
    KeyKind::Aes256,
    KeyKind::Tdea2,
    KeyKind::Tdea3,
];

/// Nothing is shown twice: whoever read their sheet wrong reads it again.
#[test]
fn what_was_written_down_is_typed_back() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &plan("AES-128"));
        let mut room = Room::new(["nope", ""]);
        room.writes_down();
        room.run(&site, "plan.toml").unwrap();
        room.assert_order(&["2 of 3 tries are left", "1 of 3 tries are left", "[parted]"]);
        let shown = room.revealed();
        assert_eq!(shown.len(), 2);
        assert_ne!(shown[0], shown[1]);
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

#[test]
fn three_times_wrong_ends_it_without_a_key() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &plan("AES-128"));
        let mut room = Room::new(["nope", "", "0"]);
        match room.run(&site, "plan.toml") {
            Err(CeremonyError::Act { cause, .. }) => assert_eq!(
                cause.to_string(),
                "stopped: First Custodian did not write the component down: it was typed back wrong 3 times. No key \
                 was made; destroy every sheet of this key and start again"
            ),
            other => panic!("{other:?}"),
        }
        assert_eq!(site.keys("kdh"), [""; 0]);
        let verified = kdh_ceremony::verify_transcript(&site.read(TRANSCRIPT)).unwrap();
        assert_eq!(verified.last_event, "failed");
    });
}

/// Who was shown a component of a key does not enter another one of it, and may enter this one.
#[test]
fn who_was_shown_a_component_enters_no_other() {
    hsm_modules::on(&hsm_modules::TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &plan("AES-128"));
        let mut room = Room::new([]);
        room.writes_down();
        room.run(&site, "plan.toml").unwrap();
        let shown = room.revealed();
        let token = site.token("kdh");
        let name = hsm::KeyName::new(KEY).unwrap();
        let key = token.secret_key(KeyRole::TransportKey, &name).unwrap();
        let kcv = token.kcv(&key).unwrap().to_string();
        token.destroy_key(&name).unwrap();
        drop((key, token));

        let back = change(crate::site::IMPORT, "\"A1B2C3\"", &format!("\"{kcv}\""));
        site.write_plan("back.toml", &back);
        let mut swapped = Room::new([&shown[1], &shown[0]]);
        match swapped.run(&site, "back.toml") {
            Err(CeremonyError::Act { cause, .. }) => {
                let cause = cause.to_string();
                assert!(
                    cause.starts_with("custody: First Custodian was shown component 1"),
                    "{cause}"
                );
            }
            other => panic!("{other:?}"),
        }
        std::fs::remove_file(site.path("tmk-transcript.jsonl")).unwrap();
        Room::new([&shown[0], &shown[1]])
            .run(&site, "back.toml")
            .unwrap();
        assert_eq!(site.keys("kdh"), [crate::site::KEY]);
    });
}
