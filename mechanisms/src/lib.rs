//! Mechanisms of PKCS#11 for which the binding has no name, and nothing else: here is the only unsafe expression
//! of the product ([decision 11](../../docs/adr/0011-one-unsafe-expression.md)).
//!
//! `cryptoki` makes a [`MechanismType`] of the numbers that it knows and of those that are a vendor's.
//! `CKM_AES_ECB_ENCRYPT_DATA` and `CKM_DES3_ECB_ENCRYPT_DATA`, by which initial keys of DUKPT are derived, are
//! neither. Whatever takes a mechanism takes them, once they have their type.

use std::ops::Deref;

use cryptoki::mechanism::{
    Mechanism, MechanismType, misc::KeyDerivationStringData, vendor_defined::VendorDefinedMechanism,
};

/// `CKM_DES3_ECB_ENCRYPT_DATA` (PKCS#11 3.1, 6.15).
pub const DES3_ECB_ENCRYPT_DATA: MechanismType = numbered(0x1102);

/// `CKM_AES_ECB_ENCRYPT_DATA` (PKCS#11 3.1, 6.15).
pub const AES_ECB_ENCRYPT_DATA: MechanismType = numbered(0x1104);

/// A mechanism that derives a key by encrypting `data`, whole blocks, in ECB mode: one of the two above.
pub fn ecb_encrypt_data<'a>(
    mechanism: MechanismType,
    data: &'a KeyDerivationStringData<'_>,
) -> Mechanism<'a> {
    Mechanism::VendorDefined(VendorDefinedMechanism::new(mechanism, Some(data)))
}

/// What `CK_MECHANISM_TYPE` is.
type Number = <MechanismType as Deref>::Target;

#[expect(
    unsafe_code,
    reason = "the binding makes this type of numbers that it knows, and of no others"
)]
const fn numbered(number: Number) -> MechanismType {
    const {
        assert!(size_of::<MechanismType>() == size_of::<Number>());
        assert!(align_of::<MechanismType>() == align_of::<Number>());
    }
    // SAFETY: A MechanismType is its number: a struct of this one field, `repr(transparent)` so that a vector of
    // them can be handed to C as one of numbers. It lends out a Number (`Deref`) and has no room for anything
    // beside it, which is asserted above. Any number can stand in it, since numbers of vendors can.
    unsafe { std::mem::transmute::<Number, MechanismType>(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_is_its_number_and_the_binding_knows_its_name() {
        for (mechanism, number, name) in [
            (DES3_ECB_ENCRYPT_DATA, 0x1102, "CKM_DES3_ECB_ENCRYPT_DATA"),
            (AES_ECB_ENCRYPT_DATA, 0x1104, "CKM_AES_ECB_ENCRYPT_DATA"),
        ] {
            assert_eq!(*mechanism, number);
            assert_eq!(mechanism.to_string(), name);
            let data = KeyDerivationStringData::new(&[0; 16]);
            let parametrized = ecb_encrypt_data(mechanism, &data);
            assert_eq!(parametrized.mechanism_type(), mechanism);
        }
    }

    /// The same as the binding's own, of those that it makes.
    #[test]
    fn what_is_made_of_a_number_is_what_the_binding_makes() {
        for known in [
            MechanismType::AES_CMAC,
            MechanismType::AES_CBC_ENCRYPT_DATA,
            MechanismType::SHA256_RSA_PKCS,
        ] {
            assert_eq!(numbered(*known), known);
            assert_eq!(MechanismType::try_from(*known).ok(), Some(known));
        }
    }

    /// As soon as the binding makes them itself, this crate has had its time.
    #[test]
    fn the_binding_does_not_make_them() {
        for mechanism in [DES3_ECB_ENCRYPT_DATA, AES_ECB_ENCRYPT_DATA] {
            assert!(MechanismType::try_from(*mechanism).is_err());
            assert!(MechanismType::new_vendor_defined(*mechanism).is_err());
        }
    }
}
