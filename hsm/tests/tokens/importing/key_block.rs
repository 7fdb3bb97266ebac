//! Keys in TR-31 blocks, which psec makes.

use cryptoki::object::Attribute;
use hsm::{KeyImport, KeyName, WrappedKey};
use hsm_modules::{
    KRYOPTIC, KRYOPTIC_BARE, NSS, Place, SOFTHSM, TestModule,
    makers::{BlockForm, tr31_block},
};
use tr31::{BlockKey, Derivation, KeyBlock, Version};
use tr34::{Kbh, KeyKind, OaepHash};

use super::{
    assert_imported, assert_kcv_verified, assert_refused, create_over, header, import, key_of, over,
};
use crate::{
    combining::component,
    common::{as_held, kinds, new_token},
    raw,
    sealing::{frame, import_raw, request},
    software,
};

/// The modules that open blocks of version D inside.
static INSIDE: [&TestModule; 2] = [&KRYOPTIC, &NSS];

const KBPK: &str = "kbpk.switch";
const KBPK_KINDS: [KeyKind; 3] = [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256];

fn kbpk(kind: KeyKind) -> KeyName {
    create_over(KBPK, kind, &over(kind))
}

fn parse(block: &str) -> KeyBlock {
    KeyBlock::parse(block.as_bytes()).unwrap()
}

fn arrived(block: &str, kind: KeyKind) -> KeyImport {
    let kbpk = KeyName::new(KBPK).unwrap();
    let block = parse(block);
    import(WrappedKey::Tr31 { kbpk, block }, kind)
}

/// A block with a key of this kind.
fn made(kbpk: KeyKind, kind: KeyKind, form: BlockForm<'_>) -> String {
    tr31_block(&over(kbpk), &header(kind).to_string(), &key_of(kind), form)
}

/// One, the last block of its payload, and the keys of the block with the clear payload.
pub(super) fn one() -> (KeyImport, Vec<u8>, Vec<Vec<u8>>) {
    kbpk(KeyKind::Aes256);
    let (kbpk, kind) = (over(KeyKind::Aes256), KeyKind::Aes128);
    let import = arrived(&made(KeyKind::Aes256, kind, BlockForm::default()), kind);
    let WrappedKey::Tr31 { block, .. } = &import.wrapped else {
        unreachable!()
    };
    let derived: [Vec<u8>; 2] = [BlockKey::Encryption, BlockKey::Authentication].map(|key| {
        let derivation = Derivation::new(Version::D, KeyKind::Aes256, key).unwrap();
        let inputs = derivation.inputs().into_iter();
        inputs
            .flat_map(|input| software::cmac_256(&kbpk, &input))
            .collect()
    });
    let payload = block.payload();
    let clear = software::decrypt_blocks(&derived[0], block.mac(), payload);
    assert_eq!(clear[2..18], key_of(kind));
    let last_block = payload[payload.len() - 16..].to_vec();
    let [encryption, authentication] = derived;
    (import, last_block, vec![encryption, authentication, clear])
}

fn strength(kind: KeyKind) -> usize {
    match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => 0,
        _ => kind.key_len(),
    }
}

/// Every kind of key under every KBPK that is strong enough.
fn pairs(place: &Place) -> Vec<(KeyKind, KeyKind)> {
    let kinds = kinds(place);
    let under = |kbpk: KeyKind| {
        let kinds = kinds.clone().into_iter();
        let carried = kinds.filter(move |kind| strength(kbpk) >= strength(*kind));
        carried.map(move |kind| (kbpk, kind))
    };
    KBPK_KINDS.into_iter().flat_map(under).collect()
}

#[test]
fn what_psec_makes_becomes_a_master_key() {
    hsm_modules::on(&INSIDE, |place| {
        let token = new_token("kdh");
        for (kbpk_kind, kind) in pairs(place) {
            let name = kbpk(kbpk_kind);
            // As short as may be, as psec likes it, with much round the key, and with optional blocks.
            for form in [
                BlockForm {
                    masked_len: Some(0),
                    optional: &[],
                },
                BlockForm::default(),
                BlockForm {
                    masked_len: Some(100),
                    optional: &["LB=terminal master key", "TS=2026-11-27T10:00:00Z"],
                },
            ] {
                let block = made(kbpk_kind, kind, form);
                assert_imported(&token, place, &arrived(&block, kind));
            }
            token.destroy_key(&name).unwrap();
        }
    });
}

#[test]
fn an_imported_key_is_sealed_for_a_terminal() {
    hsm_modules::on(&INSIDE, |place| {
        let token = new_token("kdh");
        let recipient = software::recipient();
        let public = software::public_half(&recipient);
        kbpk(KeyKind::Aes256);
        for kind in kinds(place) {
            let block = made(KeyKind::Aes256, kind, BlockForm::default());
            let key = token
                .import_key(&arrived(&block, kind), &super::kn())
                .unwrap();
            let frame = frame(kind);
            let sealed = token
                .seal(&key, &request(kind, &frame, &public, OaepHash::Sha1))
                .unwrap();
            let (_, opened) = software::open(&recipient, &sealed);
            let kn = as_held(place, kind, &key_of(kind));
            assert_eq!(opened, [frame.prefix(), &kn, frame.suffix()].concat());
            token.destroy_key(&super::kn()).unwrap();
        }
    });
}

#[test]
fn a_wrong_check_value_leaves_nothing() {
    hsm_modules::on(&INSIDE, |place| {
        let token = new_token("kdh");
        kbpk(KeyKind::Aes256);
        for kind in kinds(place) {
            let block = made(KeyKind::Aes256, kind, BlockForm::default());
            assert_kcv_verified(&token, &arrived(&block, kind));
        }
    });
}

const OTHER_MAC: &str = "the MAC of the key block is not one of kbpk.switch: compare that key's check \
                         value with the sender, and have the block sent again";

/// The block with one character changed.
fn changed(block: &str, at: usize) -> String {
    let digit = if &block[at..=at] == "0" { "1" } else { "0" };
    let mut block = block.to_owned();
    block.replace_range(at..=at, digit);
    block
}

#[test]
fn a_block_with_one_character_changed_is_refused() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("kdh");
        kbpk(KeyKind::Aes128);
        let kind = KeyKind::Aes128;
        let optional = BlockForm {
            masked_len: Some(0),
            optional: &["LB=00000000"],
        };
        let block = made(KeyKind::Aes128, kind, optional);
        let header_len = parse(&block).authenticated_header().len();

        // What the parser takes has another MAC: optional block, payload, MAC.
        let in_label = block.find("LB").unwrap() + 4;
        for at in [in_label, in_label + 7]
            .into_iter()
            .chain(header_len..block.len())
        {
            assert_refused(&token, &arrived(&changed(&block, at), kind), OTHER_MAC);
        }

        // A field of the header first is not the announced one; and if it is announced so, the MAC is another.
        let header = parse(&block).header().to_string();
        for (at, value, field) in [
            (5, "D0", "key usage"),
            (8, "D", "mode of use"),
            (11, "S", "exportability"),
        ] {
            let end = at + value.len();
            let mut other = block.clone();
            other.replace_range(at..end, value);
            let import = arrived(&other, kind);
            let expected = format!(
                "the header says {value} of {field}, and {} was announced: ask the sender which is right",
                &header[at..end]
            );
            assert_refused(&token, &import, &expected);
            let announced = KeyImport {
                header: Some(parse(&other).header().clone()),
                ..import
            };
            assert_refused(&token, &announced, OTHER_MAC);
        }
        // The version of a key is not announced.
        assert_refused(&token, &arrived(&changed(&block, 9), kind), OTHER_MAC);
        let mut tdea = block.clone();
        tdea.replace_range(7..8, "T");
        assert_refused(
            &token,
            &arrived(&tdea, kind),
            "the header says TDEA of algorithm, and AES was announced: ask the sender which is right",
        );
    });
}

#[test]
fn blocks_that_were_put_together_of_two_are_refused() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("kdh");
        kbpk(KeyKind::Aes128);
        let kind = KeyKind::Aes128;
        let block = || made(KeyKind::Aes128, kind, BlockForm::default());
        let (one, two) = (block(), block());
        let (header, payload, mac) = (16, 16..one.len() - 32, one.len() - 32);
        for mixed in [
            format!("{}{}{}", &one[..header], &two[payload.clone()], &one[mac..]),
            format!("{}{}{}", &one[..header], &one[payload], &two[mac..]),
            // One block of the payload less, and the length put right; two blocks changed places.
            format!("D{:04}{}{}", one.len() - 32, &one[5..mac - 32], &one[mac..]),
            format!(
                "{}{}{}{}",
                &one[..16],
                &one[48..80],
                &one[16..48],
                &one[80..]
            ),
        ] {
            assert_refused(&token, &arrived(&mixed, kind), OTHER_MAC);
        }
    });
}

#[test]
fn a_block_under_another_kbpk_is_refused() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("kdh");
        kbpk(KeyKind::Aes256);
        let kind = KeyKind::Aes128;
        let header = header(kind).to_string();
        let mut one_bit = over(KeyKind::Aes256);
        one_bit[31] ^= 1;
        let half = over(KeyKind::Aes256)[..16].to_vec();
        for other in [component(KeyKind::Aes256, 8), one_bit, half] {
            let block = tr31_block(&other, &header, &key_of(kind), BlockForm::default());
            assert_refused(&token, &arrived(&block, kind), OTHER_MAC);
        }
        let missing = KeyImport {
            wrapped: WrappedKey::Tr31 {
                kbpk: KeyName::new("kbpk.other").unwrap(),
                block: parse(&made(KeyKind::Aes256, kind, BlockForm::default())),
            },
            ..arrived(&made(KeyKind::Aes256, kind, BlockForm::default()), kind)
        };
        assert_refused(&token, &missing, "no key is called kbpk.other");
    });
}

#[test]
fn an_authentic_block_with_a_key_of_another_length_is_refused() {
    hsm_modules::on(&INSIDE, |place| {
        let token = new_token("kdh");
        kbpk(KeyKind::Aes256);
        let all = kinds(place);
        let aes = [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256];
        let tdea = [KeyKind::Tdea2, KeyKind::Tdea3];
        for (family, has) in [(&aes[..], true), (&tdea[..], all.contains(&KeyKind::Tdea2))] {
            for (holds, announced) in family
                .iter()
                .flat_map(|one| family.iter().map(move |two| (*one, *two)))
                .filter(|(one, two)| has && one != two)
            {
                // There is room for either.
                let form = BlockForm {
                    masked_len: Some(32),
                    optional: &[],
                };
                let block = made(KeyKind::Aes256, holds, form);
                let expected = format!(
                    "the key block does not hold a key of the kind {announced}: ask the sender what it \
                     holds, and correct the kind"
                );
                assert_refused(&token, &arrived(&block, announced), &expected);
            }
        }
        let short = BlockForm {
            masked_len: Some(0),
            optional: &[],
        };
        let block = made(KeyKind::Aes256, KeyKind::Aes128, short);
        assert_refused(
            &token,
            &arrived(&block, KeyKind::Aes256),
            "the key block's payload has 32 bytes, which is too short for a key of the kind AES-256: \
             correct the kind, or have it sent again",
        );
    });
}

#[test]
fn what_the_policy_forbids_is_refused_before_any_key_is_touched() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("kdh");
        kbpk(KeyKind::Aes128);
        let kind = KeyKind::Aes128;
        let good = made(KeyKind::Aes128, kind, BlockForm::default());
        let with_header = |header: &str| KeyImport {
            header: Some(header.parse::<Kbh>().unwrap()),
            ..arrived(&good, kind)
        };
        assert_refused(
            &token,
            &with_header("D0000K0TB00E0000"),
            "the announced header says algorithm TDEA, which is not that of a key of the kind AES-128: \
             correct one of them",
        );
        assert_refused(
            &token,
            &with_header("D0000K0AB00N0000"),
            "the header says that the key is not exportable (N), and a master key is sent to terminals: \
             have it sent with E or S",
        );
        for id in ["KS", "CT", "HM", "IK"] {
            let optional = [&*format!("{id}=00604B120F9292800000")];
            let form = BlockForm {
                masked_len: None,
                optional: &optional,
            };
            let expected = format!(
                "the key block has an optional block {id}, which is not kept here: have it sent without, \
                 or bring the key in by components"
            );
            let block = made(KeyKind::Aes128, kind, form);
            assert_refused(&token, &arrived(&block, kind), &expected);
        }
        // psec lets a stronger key go under a weaker one.
        let weak = made(KeyKind::Aes128, KeyKind::Aes256, BlockForm::default());
        assert_refused(
            &token,
            &arrived(&weak, KeyKind::Aes256),
            "a key of the kind AES-256 does not come under one of the kind AES-128, which is weaker: have \
             the sender use a key that is at least as strong",
        );
        let before = raw::count_objects();
        let other_name = KeyName::new("zmk.imported").unwrap();
        let refused = token.import_key(&arrived(&good, kind), &other_name);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "zmk.imported is not the label of a master key: choose one that begins with \"kn.\""
        );
        assert_eq!(raw::count_objects(), before);
    });
}

#[test]
fn a_kbpk_that_can_do_more_is_refused() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let name = KeyName::new(KBPK).unwrap();
        let block = made(kind, kind, BlockForm::default());
        let sound = [
            Attribute::Extractable(false),
            Attribute::Unwrap(false),
            Attribute::Derive(true),
        ];
        for (change, expected) in [
            (
                Attribute::Encrypt(true),
                "key kbpk.switch is weaker than its role: CKA_ENCRYPT is set (would show the keys of a \
                 block)",
            ),
            (
                Attribute::Sign(true),
                "key kbpk.switch is weaker than its role: CKA_SIGN is set (would show the keys of a \
                 block)",
            ),
            (
                Attribute::Extractable(true),
                "key kbpk.switch is weaker than its role: CKA_EXTRACTABLE is set (nor wrapped)",
            ),
            (
                Attribute::Unwrap(true),
                "key kbpk.switch is weaker than its role: CKA_UNWRAP is set (one usage)",
            ),
        ] {
            let changes = raw::changed(sound.to_vec(), &[change]);
            import_raw(&name, kind, &over(kind), &changes);
            assert_refused(&token, &arrived(&block, kind), expected);
            token.destroy_key(&name).unwrap();
        }
    });
}

#[test]
fn a_module_that_cannot_open_it_inside_refuses_it_by_mechanism() {
    static OTHERS: [&TestModule; 2] = [&SOFTHSM, &KRYOPTIC_BARE];
    hsm_modules::on(&OTHERS, |place| {
        let token = new_token("kdh");
        kbpk(KeyKind::Aes128);
        let block = made(KeyKind::Aes128, KeyKind::Aes128, BlockForm::default());
        let lacks = match place.module().name {
            "softhsm" => {
                "CKM_SP800_108_COUNTER_KDF and CKM_EXTRACT_KEY_FROM_KEY and CKM_CONCATENATE_DATA_AND_BASE"
            }
            _ => "CKM_EXTRACT_KEY_FROM_KEY and CKM_CONCATENATE_DATA_AND_BASE",
        };
        let expected = format!(
            "importing a key in a TR-31 block inside is not possible with this module, which lacks {lacks}"
        );
        assert_refused(&token, &arrived(&block, KeyKind::Aes128), &expected);
    });
}

#[test]
fn a_block_of_version_b_is_refused() {
    hsm_modules::on(&hsm_modules::ALL, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Tdea2;
        let header = header(kind).to_string().replacen('D', "B", 1);
        let block = tr31_block(&over(kind), &header, &key_of(kind), BlockForm::default());
        assert_refused(
            &token,
            &arrived(&block, kind),
            "key blocks of version B are not opened: have the key sent in version D, or in another form",
        );
    });
}
