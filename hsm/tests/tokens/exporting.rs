//! Keys for another system: OpenSSL and psec, in its place, find the announced keys.

use std::slice;

use cryptoki::object::Attribute;
use hsm::{
    Authenticated, ExportForm, ExportTarget, ExportedKey, HsmError, InitialKey, Kcv, KeyExport,
    KeyName, KeyRole, KnSource, Mac, NewKey, SecretKey, StorageNumber, StoredKn, Token, TokenGroup,
};
use hsm_modules::{
    KRYOPTIC, KRYOPTIC_BARE, LIMITING, NSS, Place, SOFTHSM, TestModule,
    makers::{key_unwrap, tr31_opened},
};
use tr31::{BlockKey, Derivation, KeyBlock, MAX_LEN, OptionalBlock, Version};
use tr34::{Kbh, KeyKind};

use crate::{
    combining::{combine, component, kcv_of, xor},
    common::{as_held, block_on, kinds, new_token, on_every_module},
    deriving::{by_openssl, create_bdk, derived, id},
    raw,
    sealing::import_raw,
    software,
};

/// The modules that make blocks of version D inside.
static INSIDE: [&TestModule; 2] = [&KRYOPTIC, &NSS];

pub(crate) const ZMK: &str = "zmkx.switch";
pub(crate) const KBPK: &str = "kbpkx.switch";
const MAC: &str = "zmac.switch";

fn key_name(label: &str) -> KeyName {
    KeyName::new(label).unwrap()
}

/// The value of a key that is shared with the other system.
fn shared(label: &str, kind: KeyKind) -> Vec<u8> {
    component(kind, label.len())
}

fn usage(role: KeyRole) -> Attribute {
    match role {
        KeyRole::ExportZmk => Attribute::Wrap(true),
        KeyRole::ExportMac => Attribute::Sign(true),
        _ => Attribute::Derive(true),
    }
}

/// What a key for export may do and others may not.
fn attributes(label: &str) -> Vec<Attribute> {
    let role = KeyRole::of_secret(&key_name(label));
    let no_other = [Attribute::Extractable(false), Attribute::Derive(false)];
    raw::changed(no_other.to_vec(), &[usage(role)])
}

fn create(token: &Token, label: &str, kind: KeyKind) -> SecretKey {
    import_raw(
        &key_name(label),
        kind,
        &shared(label, kind),
        &attributes(label),
    );
    let role = KeyRole::of_secret(&key_name(label));
    token.secret_key(role, &key_name(label)).unwrap()
}

/// Keys go under a key of 256 bits, with MACs by one.
fn target(token: &Token, under: &str) -> ExportTarget {
    let [under, mac] = [under, MAC].map(|label| create(token, label, KeyKind::Aes256));
    ExportTarget::new(&under, &mac).unwrap()
}

fn is_tdea(kind: KeyKind) -> bool {
    matches!(kind, KeyKind::Tdea2 | KeyKind::Tdea3)
}

fn header(kind: KeyKind) -> Kbh {
    let header = match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => "D0000B1TX00N0000",
        _ => "D0000B1AX00S0000",
    };
    header.parse().unwrap()
}

fn export_of(kn: KnSource) -> KeyExport {
    KeyExport {
        header: header(kn.kind()),
        kn,
        record: None,
        optional: Vec::new(),
        kcv_len: Kcv::LEN,
    }
}

fn master_key(token: &Token, label: &str, kind: KeyKind, changes: &[Attribute]) -> KnSource {
    import_raw(&key_name(label), kind, &component(kind, 2), changes);
    let key = token.secret_key(KeyRole::TransportKey, &key_name(label));
    KnSource::InToken(key.unwrap())
}

/// What the record of a key says, for its MAC.
fn record(index: usize, kcv: &Kcv, wrapped: &[u8]) -> Vec<u8> {
    [format!("{index} {kcv} ").as_bytes(), wrapped].concat()
}

fn export(
    token: &Token,
    target: &ExportTarget,
    keys: &[KeyExport],
) -> Result<Vec<ExportedKey>, HsmError> {
    let tokens = TokenGroup::from(token.clone());
    block_on(tokens.export(target, keys.to_vec(), record))
}

fn made_macs(
    token: &Token,
    target: &ExportTarget,
    records: &[Vec<u8>],
) -> Result<Vec<Mac>, HsmError> {
    let tokens = TokenGroup::from(token.clone());
    block_on(tokens.export_macs(target, records.to_vec()))
}

/// A key that was made and stored, with its record.
fn stored(token: &Token, kind: KeyKind) -> KeyExport {
    let number = StorageNumber::FIRST;
    let tokens = TokenGroup::from(token.clone());
    let new = NewKey {
        kind,
        kcv_len: Kcv::LEN,
    };
    let made = tokens.make_keys(number, vec![new], |_, kcv, wrapped| record(7, kcv, wrapped));
    let made = block_on(made).unwrap().remove(0);
    KeyExport {
        record: Some(Authenticated {
            number,
            bytes: record(7, &made.kcv, &made.wrapped),
            mac: made.mac,
        }),
        ..export_of(KnSource::Stored(StoredKn {
            number,
            kind,
            wrapped: made.wrapped,
        }))
    }
}

/// A key of each kind and from each source, and its value where that is known.
pub(crate) fn one_of_each(token: &Token, place: &Place) -> Vec<(KeyExport, Option<Vec<u8>>)> {
    let mut keys = Vec::new();
    token.make_storage_keys(StorageNumber::FIRST).unwrap();
    for kind in kinds(place) {
        let label = format!("kn.{}", kind.name().to_lowercase());
        let key = export_of(master_key(token, &label, kind, &[]));
        keys.push((key, Some(as_held(place, kind, &component(kind, 2)))));
        keys.push((stored(token, kind), None));
    }
    for kind in derived(place) {
        let value = component(kind, 3);
        let of = id("89ABCDEF01234560");
        let key = InitialKey::new(&create_bdk(token, kind, &value), kind, of).unwrap();
        let expected = as_held(place, kind, &by_openssl(&value, kind, of));
        let mut export = export_of(KnSource::Derived(key.clone()));
        export.optional = vec![key.optional_block()];
        keys.push((export, Some(expected)));
    }
    keys
}

/// One of each to the other system, under the key of this label.
pub(crate) fn exported_under(
    token: &Token,
    under: &str,
    keys: &[KeyExport],
) -> Result<Vec<ExportedKey>, HsmError> {
    let under = key_name(under);
    let under = token
        .secret_key(KeyRole::of_secret(&under), &under)
        .unwrap();
    let mac = token
        .secret_key(KeyRole::ExportMac, &key_name(MAC))
        .unwrap();
    export(token, &ExportTarget::new(&under, &mac).unwrap(), keys)
}

/// The keys for export in a token, and what must not be seen of them, nor of the keys of a block.
pub(crate) fn shared_keys(token: &Token) -> Vec<Vec<u8>> {
    let kind = KeyKind::Aes256;
    let mut secrets: Vec<_> = [ZMK, KBPK, MAC]
        .into_iter()
        .map(|label| {
            create(token, label, kind);
            shared(label, kind)
        })
        .collect();
    for key in [BlockKey::Encryption, BlockKey::Authentication] {
        let derivation = Derivation::new(Version::D, kind, key).unwrap();
        let inputs = derivation.inputs().into_iter();
        let macs = inputs.flat_map(|input| software::cmac_256(&shared(KBPK, kind), &input));
        secrets.push(macs.collect());
    }
    secrets
}

/// Of each key that the other system has opened.
fn assert_exported(
    (index, exported): (usize, &ExportedKey),
    (export, known): &(KeyExport, Option<Vec<u8>>),
    opened: &[u8],
) {
    let kind = export.kn.kind();
    assert_eq!(opened.len(), kind.key_len());
    if let Some(known) = known {
        assert_eq!(opened, known, "{kind}");
    }
    assert_eq!(exported.kcv, kcv_of(kind, opened), "{kind}");
    let record = record(index, &exported.kcv, &exported.wrapped);
    let mac = software::cmac_256(&shared(MAC, KeyKind::Aes256), &record);
    assert_eq!(exported.mac.as_bytes()[..], mac, "{kind}");
}

#[test]
fn what_is_wrapped_opens_in_openssl() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let target = target(&token, ZMK);
        let keys = one_of_each(&token, place);
        let exports: Vec<_> = keys.iter().map(|(export, _)| export.clone()).collect();
        let before = raw::count_objects();
        let exported = export(&token, &target, &exports).unwrap();
        assert_eq!(raw::count_objects(), before, "nothing is left");
        let zmk = shared(ZMK, KeyKind::Aes256);
        for (index, (exported, key)) in exported.iter().zip(&keys).enumerate() {
            let opened = key_unwrap(&zmk, &exported.wrapped);
            assert_exported((index, exported), key, &opened);
        }
        // The MAC of what has no key, by the same key; and of what one was made of before.
        let records = [&b"nothing"[..], &[], &[0x5A; 1000]].map(<[u8]>::to_vec);
        let macs = made_macs(&token, &target, &records).unwrap();
        for (mac, record) in macs.iter().zip(&records) {
            let expected = software::cmac_256(&shared(MAC, KeyKind::Aes256), record);
            assert_eq!(mac.as_bytes()[..], expected);
        }
        for key in token.key_strengths().unwrap() {
            assert_eq!(key.weaknesses, [""; 0], "{}", key.key.label);
        }
    });
}

#[test]
fn what_is_put_into_key_blocks_opens_in_psec() {
    hsm_modules::on(&INSIDE, |place| {
        let token = new_token("kdh");
        let mut target = target(&token, KBPK);
        let keys = one_of_each(&token, place);
        for kbpk in [KeyKind::Aes256, KeyKind::Aes192, KeyKind::Aes128] {
            if kbpk != KeyKind::Aes256 {
                token.destroy_key(&key_name(KBPK)).unwrap();
                let mac = token
                    .secret_key(KeyRole::ExportMac, &key_name(MAC))
                    .unwrap();
                target = ExportTarget::new(&create(&token, KBPK, kbpk), &mac).unwrap();
            }
            let keys: Vec<_> = keys
                .iter()
                .filter(|(export, _)| {
                    let kind = export.kn.kind();
                    is_tdea(kind) || kind.key_len() <= kbpk.key_len()
                })
                .collect();
            let exports: Vec<_> = keys.iter().map(|(export, _)| export.clone()).collect();
            let exported = export(&token, &target, &exports).unwrap();
            let blocks: Vec<_> = exported
                .iter()
                .map(|exported| String::from_utf8(exported.wrapped.clone()).unwrap())
                .collect();
            let opened = tr31_opened(&shared(KBPK, kbpk), &blocks);
            assert_eq!(opened.len(), keys.len());
            for (index, said) in opened.iter().enumerate() {
                let (exported, key) = (&exported[index], keys[index]);
                let (fields, value) = said.rsplit_once(' ').unwrap();
                let value = hex::decode(value).unwrap();
                assert_exported((index, exported), key, &value);
                let mut expected = header(key.0.kn.kind()).to_string();
                for block in &key.0.optional {
                    expected = format!("{expected} {}={}", block.id(), block.data());
                }
                let (fields, _) = fields.split_once(" PB=").unwrap_or((fields, ""));
                assert_eq!(fields, expected);
                // Keys of an algorithm are not told apart by the length of their blocks.
                let block = KeyBlock::parse(&exported.wrapped).unwrap();
                let is_tdea = is_tdea(key.0.kn.kind());
                assert_eq!(block.payload().len(), if is_tdea { 48 } else { 64 });
            }
        }
    });
}

#[test]
fn a_block_with_one_character_changed_is_refused_by_psec() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("kdh");
        let target = target(&token, KBPK);
        let kn = master_key(&token, "kn.test", KeyKind::Aes128, &[]);
        let mut key = export_of(kn);
        key.optional = vec![OptionalBlock::initial_key_id(&[0x5A; 8])];
        let [first, again] = [(); 2].map(|()| {
            let exported = export(&token, &target, slice::from_ref(&key)).unwrap();
            String::from_utf8(exported[0].wrapped.clone()).unwrap()
        });
        assert_ne!(first, again, "what fills the payload is random");
        let header_len = KeyBlock::parse(first.as_bytes())
            .unwrap()
            .authenticated_header()
            .len();
        let mut blocks = vec![first.clone()];
        // Usage, exportability, the optional block, its padding; each block of payload, and the MAC.
        let in_header = [(6, "0"), (11, "E"), (22, "0"), (40, "1")];
        let behind = (header_len..first.len()).step_by(32).map(|at| (at, "0"));
        for (at, character) in in_header.into_iter().chain(behind) {
            let mut changed = first.clone();
            let same = &first[at..=at] == character;
            changed.replace_range(at..=at, if same { "1" } else { character });
            blocks.push(changed);
        }
        let opened = tr31_opened(&shared(KBPK, KeyKind::Aes256), &blocks);
        let value = hex::encode(component(KeyKind::Aes128, 2));
        assert!(opened[0].ends_with(&value), "{}", opened[0]);
        assert_eq!(opened.len(), 1 + 4 + 5);
        for refused in &opened[1..] {
            assert_eq!(
                refused,
                "refused: Key block MAC doesn't match generated MAC."
            );
        }
        // Nor does it open under another key.
        let other = tr31_opened(&component(KeyKind::Aes256, 1), &blocks[..1]);
        assert_eq!(
            other,
            ["refused: Key block MAC doesn't match generated MAC."]
        );
    });
}

#[test]
fn what_a_module_cannot_do_inside_is_refused_by_name() {
    hsm_modules::on(&[&SOFTHSM, &KRYOPTIC_BARE], |place| {
        let token = new_token("kdh");
        let target = target(&token, KBPK);
        let kn = master_key(&token, "kn.test", KeyKind::Aes128, &[]);
        let before = raw::count_objects();
        let refused = export(&token, &target, &[export_of(kn)]).unwrap_err();
        let concatenations = "CKM_CONCATENATE_DATA_AND_BASE and CKM_CONCATENATE_BASE_AND_DATA";
        let missing = match place.module().name {
            "softhsm" => format!("CKM_SP800_108_COUNTER_KDF and {concatenations}"),
            _ => concatenations.to_owned(),
        };
        assert_eq!(
            refused.to_string(),
            format!(
                "exporting a key by tr31 inside is not possible with this module, which lacks {missing}"
            )
        );
        assert_eq!(raw::count_objects(), before);
        let tokens = TokenGroup::from(token);
        let found = tokens.verify_export(ExportForm::Tr31).unwrap_err();
        assert_eq!(found.to_string(), refused.to_string());
        tokens.verify_export(ExportForm::KeyWrap).unwrap();
    });
}

#[test]
fn keys_that_may_not_go_there_are_refused() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let mac = create(&token, MAC, KeyKind::Aes128);
        let zmk = create(&token, ZMK, KeyKind::Aes128);
        let kbpk = create(&token, KBPK, KeyKind::Aes128);
        token.make_storage_keys(StorageNumber::FIRST).unwrap();
        let to_zmk = ExportTarget::new(&zmk, &mac).unwrap();
        let to_kbpk = ExportTarget::new(&kbpk, &mac).unwrap();
        let kn = master_key(&token, "kn.128", KeyKind::Aes128, &[]);
        let good = export_of(kn.clone());
        let before = raw::count_objects();
        let refused = |target: &ExportTarget, key: KeyExport| {
            // None of those that stand beside it goes either.
            let refused = export(&token, target, &[good.clone(), key]).unwrap_err();
            refused.to_string()
        };

        let weak = |kind, label| {
            format!(
                "a key of the kind {kind} does not go out under {label}, which is of the kind AES-128 and \
                 weaker: share a stronger key with the other system"
            )
        };
        for (kind, label) in [(KeyKind::Aes192, "kn.192"), (KeyKind::Aes256, "kn.256")] {
            let stronger = master_key(&token, label, kind, &[]);
            for (target, under) in [(&to_zmk, ZMK), (&to_kbpk, KBPK)] {
                let key = export_of(stronger.clone());
                assert_eq!(refused(target, key), weak(kind, under));
            }
            token.destroy_key(&key_name(label)).unwrap();
        }
        let stronger = stored(&token, KeyKind::Aes256);
        assert_eq!(refused(&to_zmk, stronger), weak(KeyKind::Aes256, ZMK));

        let other_kind = KeyExport {
            header: header(KeyKind::Tdea2),
            ..good.clone()
        };
        let expected = "the header says algorithm TDEA, which is not that of a key of the kind AES-128: \
                        correct it";
        assert_eq!(refused(&to_zmk, other_kind), expected);
        let long = OptionalBlock::new("LB", &"x".repeat(MAX_LEN)).unwrap();
        let too_long = KeyExport {
            optional: vec![long],
            ..good.clone()
        };
        let expected = format!("characters, more than {MAX_LEN}");
        let found = refused(&to_kbpk, too_long);
        assert!(found.ends_with(&expected), "{found}");
        for kcv_len in [2, 6] {
            let key = KeyExport {
                kcv_len,
                ..good.clone()
            };
            let expected = format!("a key check value has 3 to 5 bytes, not {kcv_len}");
            assert_eq!(refused(&to_zmk, key), expected);
        }

        // Stored keys: without their record, with another one, with a changed one; and changed themselves.
        let (one, other) = (
            stored(&token, KeyKind::Aes128),
            stored(&token, KeyKind::Aes128),
        );
        let without = KeyExport {
            record: None,
            ..one.clone()
        };
        let expected = "a stored key is used only with the record that it belongs to";
        assert_eq!(refused(&to_zmk, without), expected);
        let mut changed = one.clone();
        changed.record.as_mut().unwrap().bytes[0] ^= 1;
        let found = refused(&to_zmk, changed);
        assert!(
            found.starts_with("record 1: the MAC is not the one"),
            "{found}"
        );
        let mut changed = other;
        let KnSource::Stored(kn) = &mut changed.kn else {
            unreachable!()
        };
        kn.wrapped[9] ^= 1;
        let expected = "record 1: the stored key does not come out under ksk.1";
        assert_eq!(refused(&to_zmk, changed), expected);

        // What is not a master key, or is none any more.
        let bdk = create_bdk(&token, KeyKind::Aes128, &component(KeyKind::Aes128, 3));
        let key = export_of(KnSource::InToken(bdk.clone()));
        let expected = "export a key is not for a key of the role BDK";
        assert_eq!(refused(&to_zmk, key), expected);
        let gone = InitialKey::new(&bdk, KeyKind::Aes128, id("1234567890123456")).unwrap();
        token.destroy_key(bdk.name()).unwrap();
        let key = export_of(KnSource::Derived(gone));
        assert_eq!(refused(&to_zmk, key), "no key is called bdk.aes-128");
        if place.module().can.sealing == "concatenate" {
            let spliced = [Attribute::Derive(false)];
            let kn = master_key(&token, "kn.spliced", KeyKind::Aes128, &spliced);
            let found = refused(&to_kbpk, export_of(kn));
            assert_eq!(found, "key kn.spliced has no CKA_DERIVE");
            token.destroy_key(&key_name("kn.spliced")).unwrap();
        }
        assert_eq!(raw::count_objects(), before);
    });
}

#[test]
fn keys_that_are_not_for_export_only_are_refused() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes256;
        let [zmk, kbpk, mac] = [ZMK, KBPK, MAC].map(|label| create(&token, label, kind));
        let wrong = |under: &SecretKey, mac: &SecretKey| {
            let refused = ExportTarget::new(under, mac).unwrap_err();
            refused.to_string()
        };
        let not_for = |role| format!("export a key is not for a key of the role {role}");
        assert_eq!(wrong(&mac, &mac), not_for(KeyRole::ExportMac));
        assert_eq!(
            wrong(&zmk, &kbpk),
            not_for(KeyRole::ExportKeyBlockProtection)
        );
        // Under which keys come in.
        for (label, usage) in [
            ("zmk.switch", Attribute::Unwrap(true)),
            ("kbpk.switch", Attribute::Derive(true)),
        ] {
            let changes = raw::changed(attributes(ZMK), &[Attribute::Wrap(false)]);
            let changes = raw::changed(changes, &[usage]);
            import_raw(&key_name(label), kind, &shared(ZMK, kind), &changes);
            let role = KeyRole::of_secret(&key_name(label));
            let incoming = token.secret_key(role, &key_name(label)).unwrap();
            assert_eq!(wrong(&incoming, &mac), not_for(role));
        }
        if place.module().can.tdea {
            let tdea = create(&token, "zmkx.tdea", KeyKind::Tdea3);
            assert_eq!(
                wrong(&tdea, &mac),
                "zmkx.tdea is of the kind TDEA-3KEY, and keys are exported by AES keys: share one with the \
                 other system"
            );
        }

        // Keys that may do more than their role are refused when they are found.
        let kn = export_of(master_key(&token, "kn.test", KeyKind::Aes128, &[]));
        let target = ExportTarget::new(&zmk, &mac).unwrap();
        for (label, change, attribute) in [
            (ZMK, Attribute::Unwrap(true), "CKA_UNWRAP is set"),
            (ZMK, Attribute::Decrypt(true), "CKA_DECRYPT is set"),
            (ZMK, Attribute::Encrypt(true), "CKA_ENCRYPT is set"),
            (ZMK, Attribute::Extractable(true), "CKA_EXTRACTABLE is set"),
            (ZMK, Attribute::Wrap(false), "CKA_WRAP is not set"),
            (MAC, Attribute::Verify(true), "CKA_VERIFY is set"),
            (MAC, Attribute::Derive(true), "CKA_DERIVE is set"),
            (MAC, Attribute::Wrap(true), "CKA_WRAP is set"),
            (MAC, Attribute::Sign(false), "CKA_SIGN is not set"),
        ] {
            token.destroy_key(&key_name(label)).unwrap();
            let changes = raw::changed(attributes(label), &[change]);
            import_raw(&key_name(label), kind, &shared(label, kind), &changes);
            let refused = export(&token, &target, slice::from_ref(&kn)).unwrap_err();
            let expected = format!("key {label} is weaker than its role: {attribute}");
            assert!(refused.to_string().starts_with(&expected), "{refused}");
            token.destroy_key(&key_name(label)).unwrap();
            create(&token, label, kind);
        }
        // Another key by that name.
        token.destroy_key(&key_name(ZMK)).unwrap();
        create(&token, ZMK, KeyKind::Aes128);
        let refused = export(&token, &target, &[kn]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "zmkx.switch is of the kind AES-128, not AES-256"
        );
        token.destroy_key(&key_name(MAC)).unwrap();
        let refused = made_macs(&token, &target, &[Vec::new()]).unwrap_err();
        assert_eq!(refused.to_string(), "no key is called zmac.switch");
    });
}

/// As they come from a ceremony, limited to what they are for.
#[test]
fn keys_of_components_export_and_do_nothing_else() {
    hsm_modules::on(&LIMITING, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes256;
        let components = [component(kind, 0), component(kind, 1)];
        let value = xor(&components);
        let [zmk, kbpk, mac] = [ZMK, KBPK, MAC].map(|label| {
            let made = combine(&token, kind, &key_name(label), &components);
            assert_eq!(token.kcv(&made).unwrap(), kcv_of(kind, &value));
            // SoftHSM states no length of a key that it unwrapped.
            let found = token.announced_key(made.role(), made.name(), kind);
            assert_eq!(found.unwrap(), made);
            made
        });
        for (key, expected) in [
            (&zmk, &["CKM_AES_CMAC", "CKM_AES_KEY_WRAP"][..]),
            (&kbpk, &["CKM_AES_CMAC", "CKM_SP800_108_COUNTER_KDF"]),
            (&mac, &["CKM_AES_CMAC"]),
        ] {
            let strengths = token.key_strengths().unwrap();
            let mut strengths = strengths.into_iter();
            let label = key.name().label();
            let found = strengths.find(|found| found.key.label == label).unwrap();
            assert_eq!((found.role, &found.weaknesses[..]), (key.role(), &[][..]));
            let mut limit = found.allowed_mechanisms.unwrap();
            limit.sort();
            assert_eq!(limit, expected, "{label}");
        }
        let kn = export_of(master_key(&token, "kn.test", KeyKind::Aes192, &[]));
        let target = ExportTarget::new(&zmk, &mac).unwrap();
        let exported = export(&token, &target, &[kn]).unwrap().remove(0);
        let opened = key_unwrap(&value, &exported.wrapped);
        assert_eq!(opened, component(KeyKind::Aes192, 2));
        let record = record(0, &exported.kcv, &exported.wrapped);
        assert_eq!(
            exported.mac.as_bytes()[..],
            software::cmac_256(&value, &record)
        );
    });
}
