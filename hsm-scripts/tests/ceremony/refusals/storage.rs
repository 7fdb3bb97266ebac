//! Storage keys: their plan, and what is in the token of pairs before.

use hsm::KeyName;
use hsm_modules::SOFTHSM;

use super::{Chapter, refused_plans, run, said};
use crate::site::{
    NEXT_STORAGE_KEYS, Site, assert_success, change, first_storage_keys, unattended,
};

#[test]
fn storage_keys() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let mut chapter = Chapter::new(9, "Storage keys");
        let first = unattended(&first_storage_keys());
        let next = unattended(NEXT_STORAGE_KEYS);
        let numbered = |number: &str| change(&next, "number = 2", &format!("number = {number}"));
        let token = "act = \"storage-keys\"\ntoken = \"kdh\"\n";
        refused_plans(
            &mut chapter,
            &site,
            &next,
            &[],
            &[
                ("the number 0", "number = 2", "number = 0"),
                ("a number that is none", "number = 2", "number = \"two\""),
                ("a label of one's own", "number = 2", "key = \"storage\""),
                (
                    "a token that the plan does not name",
                    token,
                    "act = \"storage-keys\"\ntoken = \"vault\"\n",
                ),
                (
                    "the same pair twice",
                    "[[acts]]\n",
                    &format!("[[acts]]\n{token}number = 2\n\n[[acts]]\n"),
                ),
                (
                    "a pair for imports under the label of a storage key",
                    "[[acts]]\n",
                    "[[acts]]\nact = \"import-pair\"\ntoken = \"kdh\"\nkey = \"ksk.1\"\npublic-key = \"a.pem\"\n\n\
                     [[acts]]\n",
                ),
                (
                    "a key in components under the label of a storage key",
                    "[[acts]]\n",
                    "[[acts]]\nact = \"import-components\"\ntoken = \"kdh\"\nkey = \"ksm.1\"\nkind = \"AES-128\"\n\
                     kcv = \"CBDF95\"\ncomponents = []\n\n[[acts]]\n",
                ),
            ],
        );
        let mut refused = |wrong: &str, plan: &str, keys: &[&str]| {
            chapter.case(wrong, said(&site, &run(&site, plan)));
            assert_eq!(site.keys("kdh"), keys, "{wrong}");
        };
        let destroy = |label: &str| {
            let name = KeyName::new(label).unwrap();
            site.token("kdh").destroy_key(&name).unwrap();
        };
        refused("a second pair without the first", &next, &[]);
        assert_success(&run(&site, &first));
        let pair = ["ksk.1", "ksm.1"];
        refused("the pair is there already", &first, &pair);
        refused("a number is left out", &numbered("3"), &pair);
        destroy("ksk.1");
        refused("half of the pair is there already", &first, &["ksm.1"]);
        refused("a second pair, and half of the first", &next, &["ksm.1"]);
        destroy("ksm.1");
        assert_success(&run(&site, &first));
        assert_success(&run(&site, &next));
        for label in pair {
            destroy(label);
        }
        refused(
            "the number of a pair that is gone",
            &first,
            &["ksk.2", "ksm.2"],
        );
        chapter.assert_is_in_the_book();
    });
}
