//! The names of the profiles.

use tr34::Profile;

#[test]
fn names_are_read_back_and_no_others() {
    for profile in Profile::ALL {
        assert_eq!(profile.name().parse(), Ok(profile));
    }
    for name in ["", "x9", "X9-2019", "x9-2019 ", "x9_2019", "2019"] {
        let error = name.parse::<Profile>().unwrap_err().to_string();
        for profile in Profile::ALL {
            assert!(error.contains(profile.name()), "{error}");
        }
    }
}

#[test]
fn the_default_is_the_strict_one() {
    assert_eq!(Profile::default(), Profile::X9_2019);
    assert_eq!(Profile::ALL[0], Profile::X9_2019);
}
