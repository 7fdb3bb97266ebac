//! The length of a KDH certificate's serial number, chosen so that an HSM that can only encrypt
//! whole blocks can seal a key block (see the decision records, number 1).

use der::{Decode, asn1::AnyRef};
use tr34::{Profile, key_offset};

use crate::{Name, serial::ISSUED_LEN};

/// The smallest serial number length that puts Kn on a block boundary for every offered length, of Kn and of its
/// header.
///
/// The key block in which Kn stands names the KDH certificate by issuer and serial number; the
/// issuer's name is given, the length is free between 8 and 20 bytes. `None` if no length fits: then
/// the CA needs another name, before it is made. The key block is that of every profile but
/// `x9-2019-annex-d`, whose Kn may stand a byte off.
pub fn aligned_serial_length(
    issuer: &Name,
    key_lengths: &[usize],
    header_lengths: &[usize],
    block: usize,
) -> Option<usize> {
    let issuer_len = AnyRef::from_der(issuer.der()).ok()?.value().len();
    let mut lengths = ISSUED_LEN;
    lengths.find(|&serial_len| {
        let aligned = |key_len, header_len| {
            let profile = Profile::X9_2019;
            let offset = key_offset(profile, issuer_len, serial_len, key_len, header_len);
            offset.is_multiple_of(block)
        };
        let mut header_lengths = header_lengths.iter();
        header_lengths.all(|header| key_lengths.iter().all(|key| aligned(*key, *header)))
    })
}
