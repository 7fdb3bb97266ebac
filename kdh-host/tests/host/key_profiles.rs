//! What the slots of devices hold: who decides it, what is refused, and to how many devices it is done.

use std::fs;

use hsm_modules::{Place, SOFTHSM};
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        AssignKeyProfileRequest, DerivedKey, KeyCheckValue, KeyProfile, KeyProfileChange,
        KeyProfileSlot, KeyProfileTarget, KeyProfileVersion, ListAuditRecordsRequest,
        ListDeviceGroupsRequest, ListKeyProfilesRequest, PutKeyProfileRequest, RegisterKeyRequest,
        RemoveKeyProfileRequest, SetDeviceGroupRequest, SetDeviceGroupResponse, SharedKey,
        ShowDeviceRequest, ShowKeyProfileRequest, UniqueKey,
        administration_client::AdministrationClient, key_check_value::Method,
        key_profile_slot::Source, key_profile_target::Target,
    },
};
use tonic::{Status, transport::Channel};

use crate::{
    bindings::reason,
    world::{
        self, BDK_KCV, MASTER_KEY_KCV, Running, World, add_device, bring_bdk, registering_bdk,
    },
};

type Operator = AdministrationClient<Channel>;

/// A host with devices SN-1 to SN-4 of model M1, and an operator of each role: ada with the role keys, bob with the
/// role fleet, cleo with the role audit.
struct Office<'w> {
    world: &'w World<'w>,
    host: Running,
    ada: Operator,
    bob: Operator,
    cleo: Operator,
}

fn play(place: &Place, scene: impl AsyncFnOnce(Office<'_>)) {
    let world = World::with_kdh_token(place.folder(), bring_bdk);
    configure(&world, "");
    world.play(async |world| {
        let mut office = Office::open(world).await;
        let mut bdks = world.bdks(&office.host).await;
        let bdk = registering_bdk("acquirer", "AES-128", &BDK_KCV);
        bdks.register_bdk(bdk).await.unwrap();
        for number in 1..=4 {
            add_device(&mut office.bob, &format!("SN-{number}")).await;
        }
        scene(office).await;
    });
}

fn configure(world: &World<'_>, lines: &str) {
    world.configure(lines);
    let path = world.path("kdh-host.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    for (before, after) in [
        (r#"["fleet", "keys", "audit"]"#, r#"["keys"]"#),
        (r#"["recovery", "keys"]"#, r#"["fleet"]"#),
        (r#"["recovery"]"#, r#"["audit"]"#),
    ] {
        assert!(text.contains(before));
        text = text.replace(before, after);
    }
    fs::write(path, text).unwrap();
}

impl<'w> Office<'w> {
    async fn open(world: &'w World<'w>) -> Self {
        let host = world.serve().await;
        let ada = world.operator(&host).await;
        let [bob, cleo] = world.recoverers(&host).await;
        Self {
            world,
            host,
            ada,
            bob,
            cleo,
        }
    }

    async fn close(self) {
        self.host.stop().await;
    }

    async fn put(&mut self, request: PutKeyProfileRequest) -> Result<KeyProfileChange, Status> {
        Ok(self.ada.put_key_profile(request).await?.into_inner())
    }

    async fn assign(
        &mut self,
        profile: &str,
        target: Target,
        dry_run: bool,
    ) -> Result<KeyProfileChange, Status> {
        let request = assigning(profile, target, dry_run);
        Ok(self.ada.assign_key_profile(request).await?.into_inner())
    }

    async fn group(
        &mut self,
        serials: &[&str],
        group: &str,
    ) -> Result<SetDeviceGroupResponse, Status> {
        let request = grouping(serials, group);
        Ok(self.ada.set_device_group(request).await?.into_inner())
    }

    async fn remove(&mut self, profile: &str) -> Result<KeyProfileVersion, Status> {
        let request = removing(profile);
        Ok(self.ada.remove_key_profile(request).await?.into_inner())
    }

    /// The profile of a device, and what carries it.
    async fn profile_of(&mut self, serial_number: &str) -> (String, Option<Target>) {
        let show = ShowDeviceRequest {
            serial_number: serial_number.to_owned(),
        };
        let shown = self.cleo.show_device(show).await.unwrap().into_inner();
        let target = shown.profile_target.and_then(|target| target.target);
        (shown.profile_name, target)
    }
}

fn slot(name: &str, header: &str) -> KeyProfileSlot {
    KeyProfileSlot {
        slot: name.to_owned(),
        header: header.to_owned(),
        kind: "AES-128".to_owned(),
        source: Some(Source::Unique(UniqueKey {})),
        kcv_method: Method::AesCmac.into(),
        kcv_length: 5,
        validity_days: 400,
        renewal_days: 365,
    }
}

/// A sound profile with the slots `pin` and `tmk`.
fn putting(name: &str, based_on: u32) -> PutKeyProfileRequest {
    PutKeyProfileRequest {
        profile: Some(KeyProfile {
            name: name.to_owned(),
            slots: vec![
                slot("tmk", "D0000K0AD00N0000"),
                slot("pin", "D0000P0AE00N0000"),
            ],
        }),
        based_on,
        why: "first".to_owned(),
        dry_run: false,
    }
}

fn with(name: &str, change: impl Fn(&mut KeyProfileSlot)) -> PutKeyProfileRequest {
    let mut request = putting(name, 0);
    change(&mut request.profile.as_mut().unwrap().slots[0]);
    request
}

fn model(name: &str) -> Target {
    Target::Model(name.to_owned())
}

fn group(name: &str) -> Target {
    Target::Group(name.to_owned())
}

fn assigning(profile: &str, target: Target, dry_run: bool) -> AssignKeyProfileRequest {
    AssignKeyProfileRequest {
        profile_name: profile.to_owned(),
        target: Some(KeyProfileTarget {
            target: Some(target),
        }),
        why: if dry_run { "" } else { "first" }.to_owned(),
        dry_run,
    }
}

fn grouping(serials: &[&str], group: &str) -> SetDeviceGroupRequest {
    SetDeviceGroupRequest {
        serial_numbers: serials.iter().map(ToString::to_string).collect(),
        group: group.to_owned(),
        why: "first".to_owned(),
    }
}

fn removing(profile: &str) -> RemoveKeyProfileRequest {
    RemoveKeyProfileRequest {
        profile_name: profile.to_owned(),
        why: "over".to_owned(),
    }
}

/// What a change does, in short: models and groups with their devices, then slots with how many devices get a new
/// key, keep theirs, and get no more keys.
fn plan(change: &KeyProfileChange) -> Vec<String> {
    let plan = change.plan.as_ref().unwrap();
    let reach = plan.reach.iter().map(|reach| {
        let target = reach.target.as_ref().and_then(|it| it.target.as_ref());
        match target.unwrap() {
            Target::Model(name) => format!("model {name}: {}", reach.devices),
            Target::Group(name) => format!("group {name}: {}", reach.devices),
        }
    });
    let slots = plan.slots.iter().map(|plan| {
        let differences = plan.differences.join(" ");
        format!(
            "{}: {} {} {} [{differences}]",
            plan.slot, plan.new_key, plan.keep, plan.end
        )
    });
    reach.chain(slots).collect()
}

fn version(change: &KeyProfileChange) -> u32 {
    change.current.as_ref().map_or(0, |current| current.version)
}

#[test]
fn profiles_are_put_carried_changed_and_removed() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut office| {
            a_profile_for_a_model(&mut office).await;
            another_one_for_a_group(&mut office).await;
            a_change_of_the_models(&mut office).await;
            the_group_without_its_own(&mut office).await;
            // All of it is on record, and is so after a restart.
            let records = office
                .cleo
                .list_audit_records(ListAuditRecordsRequest::default());
            let records = records.await.unwrap().into_inner().records;
            let actions: Vec<_> = records
                .iter()
                .filter(|record| record.outcome == "ok")
                .filter(|record| {
                    record.action.starts_with("key-profile.") || record.action == "device.grouped"
                })
                .map(|record| format!("{} {}", record.action, record.device))
                .collect();
            let expected = [
                "key-profile.put ",
                "key-profile.assigned ",
                "device.grouped SN-1",
                "device.grouped SN-2",
                "key-profile.put ",
                "key-profile.assigned ",
                "device.grouped SN-3",
                "key-profile.put ",
                "key-profile.assigned ",
                "device.grouped SN-1",
                "key-profile.removed ",
                "key-profile.put ",
            ];
            assert_eq!(actions, expected);
            let world = office.world;
            office.close().await;
            let mut office = Office::open(world).await;
            assert_eq!(office.profile_of("SN-4").await, by_model());
            office.close().await;
        });
    });
}

fn by_model() -> (String, Option<Target>) {
    ("standard".to_owned(), Some(model("M1")))
}

/// Another one than the sample, with the slots `data` and `tmk`.
fn pilot(based_on: u32) -> PutKeyProfileRequest {
    let mut pilot = putting("pilot", based_on);
    let slots = &mut pilot.profile.as_mut().unwrap().slots;
    slots[0].header = "D0000K1AD00N0000".into();
    slots[1].slot = "data".into();
    slots[1].header = "D0000D0AE00N0000".into();
    pilot
}

/// It is asked what it would do, put, assigned, and put again.
async fn a_profile_for_a_model(office: &mut Office<'_>) {
    // Nothing is done by asking.
    let mut dry = putting("standard", 0);
    dry.dry_run = true;
    dry.why.clear();
    let planned = office.put(dry).await.unwrap();
    assert_eq!((version(&planned), planned.unchanged), (1, false));
    assert_eq!(plan(&planned), ["pin: 0 0 0 [new]", "tmk: 0 0 0 [new]"]);
    let listed = office.cleo.list_key_profiles(ListKeyProfilesRequest {});
    assert!(listed.await.unwrap().get_ref().profiles.is_empty());

    // A new profile, for a model.
    let done = office.put(putting("standard", 0)).await.unwrap();
    assert_eq!((version(&done), done.unchanged), (1, false));
    let planned = office.assign("standard", model("M1"), true).await.unwrap();
    let expected = ["model M1: 4", "pin: 4 0 0 [new]", "tmk: 4 0 0 [new]"];
    assert_eq!(plan(&planned), expected);
    assert_eq!(office.profile_of("SN-1").await, (String::new(), None));
    let done = office.assign("standard", model("M1"), false).await.unwrap();
    assert_eq!(plan(&done), expected);
    assert_eq!(office.profile_of("SN-1").await, by_model());
    let again = office.assign("standard", model("M1"), false).await.unwrap();
    assert!(again.unchanged);

    // The same once more does nothing, whatever it is based on.
    for based_on in [0, 1, 7] {
        let again = office.put(putting("standard", based_on)).await.unwrap();
        assert_eq!((version(&again), again.unchanged), (1, true));
    }
}

/// Which wins, whole.
async fn another_one_for_a_group(office: &mut Office<'_>) {
    // A group that carries another one.
    let grouped = office.group(&["SN-1", "SN-2"], "pilot").await.unwrap();
    assert_eq!((grouped.moved, grouped.stayed, grouped.devices), (2, 0, 2));
    assert_eq!(
        office.profile_of("SN-1").await,
        by_model(),
        "it carries none yet"
    );
    office.put(pilot(0)).await.unwrap();
    let done = office.assign("pilot", group("pilot"), false).await.unwrap();
    let expected = [
        "group pilot: 2",
        "data: 2 0 0 [new]",
        "pin: 0 0 2 [taken out]",
        "tmk: 2 0 0 [header]",
    ];
    assert_eq!(plan(&done), expected);
    let by_group = ("pilot".to_owned(), Some(group("pilot")));
    assert_eq!(office.profile_of("SN-1").await, by_group);
    assert_eq!(office.profile_of("SN-3").await, by_model());
    let grouped = office.group(&["SN-2", "SN-3"], "pilot").await.unwrap();
    assert_eq!((grouped.moved, grouped.stayed, grouped.devices), (1, 1, 3));
    assert_eq!(grouped.profile_name, "pilot");
}

/// Of those who have no other one; nobody's change is lost, and no version.
async fn a_change_of_the_models(office: &mut Office<'_>) {
    // A change for those who have no other one, and only where it needs a new key.
    let mut changed = putting("standard", 1);
    let slots = &mut changed.profile.as_mut().unwrap().slots;
    slots[0].kind = "AES-128".into();
    slots[0].validity_days = 500;
    slots[1].source = Some(Source::Derived(DerivedKey {
        bdk: "acquirer".to_owned(),
        key_set_id: vec![1, 2, 3, 4],
        ksn_in_header: true,
    }));
    slots[1].header = "D0000B1AX00N0000".into();
    let done = office.put(changed.clone()).await.unwrap();
    let expected = [
        "model M1: 1",
        "pin: 1 0 0 [header source]",
        "tmk: 0 1 0 [validity-days]",
    ];
    assert_eq!(
        (version(&done), plan(&done)),
        (2, expected.map(String::from).to_vec())
    );

    // Somebody else's change is not lost.
    let mut stale = putting("standard", 1);
    stale.profile.as_mut().unwrap().slots.truncate(1);
    let refused = office.put(stale).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::WrongState));
    let start = "this is based on version 1 of standard, and version 2 is there, by ada at ";
    assert!(
        refused.message().starts_with(start),
        "{}",
        refused.message()
    );

    // Every version stays readable.
    let show = |version| ShowKeyProfileRequest {
        profile_name: "standard".to_owned(),
        version,
    };
    let newest = office
        .cleo
        .show_key_profile(show(0))
        .await
        .unwrap()
        .into_inner();
    let slots = |version: Option<KeyProfileVersion>| {
        let profile = version.unwrap().profile.unwrap();
        profile
            .slots
            .into_iter()
            .map(|slot| slot.header)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        slots(newest.version),
        ["D0000B1AX00N0000", "D0000K0AD00N0000"]
    );
    let history: Vec<_> = newest
        .history
        .iter()
        .map(|it| (it.version, it.removed))
        .collect();
    assert_eq!(history, [(2, false), (1, false)]);
    let first = office
        .ada
        .show_key_profile(show(1))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        slots(first.version),
        ["D0000P0AE00N0000", "D0000K0AD00N0000"]
    );
}

/// And without a profile that nothing carries.
async fn the_group_without_its_own(office: &mut Office<'_>) {
    // The group goes back to what the model says.
    let done = office.assign("", group("pilot"), false).await.unwrap();
    let expected = [
        "group pilot: 3",
        "data: 0 0 3 [taken out]",
        "pin: 3 0 0 [new]",
        "tmk: 3 0 0 [header validity-days]",
    ];
    assert_eq!(plan(&done), expected);
    assert_eq!(office.profile_of("SN-1").await, by_model());
    office.group(&["SN-1"], "").await.unwrap();
    let groups = office.cleo.list_device_groups(ListDeviceGroupsRequest {});
    let groups = groups.await.unwrap().into_inner().groups;
    assert_eq!(
        (groups.len(), &*groups[0].name, groups[0].devices),
        (1, "pilot", 2)
    );

    // What nothing carries can be removed, and put again.
    let refused = office.remove("standard").await.unwrap_err();
    assert_eq!(
        refused.message(),
        "key profile standard is carried by model M1: have them carry another one, or none, first"
    );
    let removed = office.remove("pilot").await.unwrap();
    assert_eq!((removed.version, removed.removed), (2, true));
    let gone = office
        .assign("pilot", group("pilot"), false)
        .await
        .unwrap_err();
    let start = "key profile pilot was removed by ada at ";
    assert!(gone.message().starts_with(start), "{}", gone.message());
    assert_eq!(reason(office.put(pilot(1)).await), Some(Reason::WrongState));
    assert_eq!(version(&office.put(pilot(2)).await.unwrap()), 3);
}

#[test]
fn what_is_refused_is_refused_with_words_and_put_on_record() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut office| {
            only_those_who_may(&mut office).await;
            profiles_that_cannot_be(&mut office.ada).await;
            groups_that_cannot_be(&mut office.ada).await;
            what_may_not_be(&mut office).await;

            // A shared key, where the host allows them.
            let key = RegisterKeyRequest {
                name: "data".to_owned(),
                hsm_label: "kn.test".to_owned(),
                header: "D0000D0AB00E0000".to_owned(),
                kcv: Some(KeyCheckValue {
                    method: Method::AesCmac.into(),
                    value: MASTER_KEY_KCV.to_vec(),
                }),
            };
            office.ada.register_key(key).await.unwrap();
            let refused = office.put(with("shared", share)).await.unwrap_err();
            assert_eq!(
                refused.message(),
                "slot tmk: all devices would get one key: one opened terminal would give away the key of all: take source \
                 = \"unique\", or set shared-keys = \"allow\" in the host's configuration (shared-keys-not-allowed)"
            );
            let world = office.world;
            office.close().await;
            configure(world, "shared-keys = \"allow\"\nkey-policy = \"lenient\"\n");
            let mut office = Office::open(world).await;
            let done = office.put(with("shared", share)).await.unwrap();
            let findings = done.plan.unwrap().findings;
            assert_eq!(findings.len(), 1);
            assert!(!findings[0].refuses && findings[0].rule == "shared-key");
            let other = with("other", |slot| {
                share(slot);
                slot.kcv_length = 5;
            });
            let refused = office.put(other).await.unwrap_err();
            assert_eq!(
                refused.message(),
                "slot tmk: the key data is registered with the header D0000D0AB00E0000, the kind AES-128, and a check value \
                 by AES_CMAC of 3 bytes: say the same"
            );
            // Strict no more.
            let strong = with("strong", |slot| slot.kind = "AES-256".to_owned());
            let done = office.put(strong).await.unwrap();
            let findings = done.plan.unwrap().findings;
            assert_eq!(findings[0].rule, "stronger-than-what-wraps-it");
            let records = office
                .cleo
                .list_audit_records(ListAuditRecordsRequest::default());
            let records = records.await.unwrap().into_inner().records;
            let warned = records
                .iter()
                .filter(|it| it.action == "key-profile.warned");
            let warned: Vec<_> = warned.map(|record| &*record.detail).collect();
            assert_eq!(
                warned,
                [
                    r#"{"profile":"shared","version":1,"warnings":[{"rule":"shared-key","slot":"tmk"}]}"#,
                    r#"{"profile":"strong","version":1,"warnings":[{"rule":"stronger-than-what-wraps-it","slot":"tmk"}]}"#,
                ]
            );
            let put = records.iter().filter(|it| it.action == "operator.refused");
            assert!(put.filter(|it| it.detail.contains("PutKeyProfile")).count() >= 6);
            office.close().await;
            // Strict again: the host starts, and the profile is not given to anything new.
            configure(world, "shared-keys = \"allow\"\n");
            let mut office = Office::open(world).await;
            let refused = office.assign("strong", model("M1"), false).await;
            assert_eq!(reason(refused), Some(Reason::RequestInvalid));
            office.close().await;
        });
    });
}

fn share(slot: &mut KeyProfileSlot) {
    slot.header = "D0000D0AB00E0000".into();
    slot.source = Some(Source::Shared(SharedKey {
        key_name: "data".to_owned(),
    }));
    slot.kcv_length = 3;
    slot.renewal_days = 0;
}

/// The role keys changes, keys and audit read.
async fn only_those_who_may(office: &mut Office<'_>) {
    for operator in [&mut office.bob, &mut office.cleo] {
        let refusals = [
            reason(operator.put_key_profile(putting("p", 0)).await),
            reason(
                operator
                    .assign_key_profile(assigning("p", model("M1"), false))
                    .await,
            ),
            reason(operator.remove_key_profile(removing("p")).await),
            reason(operator.set_device_group(grouping(&["SN-1"], "g")).await),
        ];
        assert_eq!(refusals, [Some(Reason::RoleMissing); 4]);
    }
    let show = || ShowKeyProfileRequest {
        profile_name: "p".to_owned(),
        version: 0,
    };
    let refusals = [
        reason(
            office
                .bob
                .list_key_profiles(ListKeyProfilesRequest {})
                .await,
        ),
        reason(office.bob.show_key_profile(show()).await),
        reason(
            office
                .bob
                .list_device_groups(ListDeviceGroupsRequest {})
                .await,
        ),
    ];
    assert_eq!(refusals, [Some(Reason::RoleMissing); 3]);
    for operator in [&mut office.ada, &mut office.cleo] {
        operator
            .list_key_profiles(ListKeyProfilesRequest {})
            .await
            .unwrap();
        operator
            .list_device_groups(ListDeviceGroupsRequest {})
            .await
            .unwrap();
        assert_eq!(
            reason(operator.show_key_profile(show()).await),
            Some(Reason::NotFound)
        );
    }
}

/// What was refused, with which reason and words.
type Refusal = (Option<Status>, Reason, &'static str);

fn expect(refusals: impl IntoIterator<Item = Refusal>) {
    for (refused, reason, message) in refusals {
        let refused = refused.unwrap();
        assert_eq!(
            (refused.reason(), refused.message()),
            (Some(reason), message)
        );
    }
}

/// What names nothing, or is none of its kind.
async fn profiles_that_cannot_be(ada: &mut Operator) {
    let (invalid, missing) = (Reason::RequestInvalid, Reason::NotFound);
    let nothing = PutKeyProfileRequest {
        profile: None,
        ..putting("p", 0)
    };
    let silent = PutKeyProfileRequest {
        why: String::new(),
        ..putting("p", 0)
    };
    let nowhere = AssignKeyProfileRequest {
        target: None,
        ..assigning("p", model("M1"), false)
    };
    expect([
        (
            ada.put_key_profile(nothing).await.err(),
            invalid,
            "\"\" is no name of a key profile: 1 to 64 of a-z, 0-9 and '-'\na profile has 1 to 64 slots, not 0",
        ),
        (
            ada.put_key_profile(silent).await.err(),
            invalid,
            "\"\" is no reason: 1 to 200 printable characters",
        ),
        (
            ada.put_key_profile(putting("p", 3)).await.err(),
            Reason::WrongState,
            "there is no key profile p, and this is based on its version 3: correct the name, or base it on 0",
        ),
        (
            ada.put_key_profile(with("p", share)).await.err(),
            invalid,
            "slot tmk: there is no key data: register it first",
        ),
        (
            ada.assign_key_profile(nowhere).await.err(),
            invalid,
            "nothing is named that shall carry it: name a model or a group",
        ),
        (
            ada.assign_key_profile(assigning("p", model("M1"), false))
                .await
                .err(),
            missing,
            "there is no key profile p",
        ),
        (
            ada.assign_key_profile(assigning("P", model("M1"), false))
                .await
                .err(),
            invalid,
            "\"P\" is no name of a key profile: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (
            ada.assign_key_profile(assigning("p", group("Pilot"), false))
                .await
                .err(),
            invalid,
            "\"Pilot\" is no name of a device group: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (
            ada.assign_key_profile(assigning("", model("M1"), false))
                .await
                .err(),
            missing,
            "model M1 carries no key profile",
        ),
        (
            ada.remove_key_profile(removing("p")).await.err(),
            missing,
            "there is no key profile p",
        ),
    ]);
}

async fn groups_that_cannot_be(ada: &mut Operator) {
    let (invalid, missing) = (Reason::RequestInvalid, Reason::NotFound);
    let many: Vec<_> = (0..1001).map(|number| format!("SN-{number}")).collect();
    let many: Vec<_> = many.iter().map(|serial| &**serial).collect();
    expect([
        (
            ada.set_device_group(grouping(&["SN-1", "SN-9"], "g"))
                .await
                .err(),
            missing,
            "there is no device SN-9",
        ),
        (
            ada.set_device_group(grouping(&["SN-1", "sn-2"], "g"))
                .await
                .err(),
            invalid,
            "\"sn-2\" is no serial number: 1 to 32 of A-Z, 0-9 and '-', not beginning with '-'",
        ),
        (
            ada.set_device_group(grouping(&["SN-1"], "G")).await.err(),
            invalid,
            "\"G\" is no name of a device group: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (
            ada.set_device_group(grouping(&[], "g")).await.err(),
            invalid,
            "1 to 1000 devices are put into a group at once, not 0",
        ),
        (
            ada.set_device_group(grouping(&many, "g")).await.err(),
            invalid,
            "1 to 1000 devices are put into a group at once, not 1001",
        ),
    ]);
    let groups = ada
        .list_device_groups(ListDeviceGroupsRequest {})
        .await
        .unwrap();
    assert!(groups.get_ref().groups.is_empty(), "none of some, either");
}

/// What the policy refuses is told all at once; asked what it would do, the host says so too.
async fn what_may_not_be(office: &mut Office<'_>) {
    let bad = |dry_run| {
        let mut request = putting("bad", 0);
        let slots = &mut request.profile.as_mut().unwrap().slots;
        slots[0].header = "D0000M3AC00N0000".into();
        slots[1].header = "D0000P0AE00E0000".into();
        slots[1].renewal_days = 400;
        request.dry_run = dry_run;
        request
    };
    let refused = office.put(bad(false)).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::RequestInvalid));
    assert_eq!(
        refused.message(),
        "slot pin: usage P0 (PIN encryption) is for PINs, and the key is exportable (E): whoever has the terminal export it \
         can read PINs: write N (exportable-pin-key)\n\
         slot pin: a key is renewed after 400 days, and valid for 400 days: the key would have run out before the next one \
         comes: renew it earlier, or let it be valid longer (renewal-after-validity)\n\
         slot tmk: usage M3 (ISO 9797-1 MAC algorithm 3) is for keys of TDEA, and this is one of AES: a terminal cannot use \
         the key for what the header says: correct the usage or the kind (usage-of-other-algorithm)"
    );
    let planned = office.put(bad(true)).await.unwrap();
    let findings = planned.plan.unwrap().findings;
    let rules: Vec<_> = findings
        .iter()
        .map(|it| (&*it.slot, &*it.rule, it.refuses))
        .collect();
    assert_eq!(
        rules,
        [
            ("pin", "exportable-pin-key", true),
            ("pin", "renewal-after-validity", true),
            ("tmk", "usage-of-other-algorithm", true),
        ]
    );
    let listed = office
        .ada
        .list_key_profiles(ListKeyProfilesRequest {})
        .await
        .unwrap();
    assert!(listed.get_ref().profiles.is_empty());
}
