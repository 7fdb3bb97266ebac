//! A token made by AWS's own sample code, whole: signature, Ke, key block.

use system_tests::hostile::{open_key_block, unwrap_ke};
use tr34::{KeyBlock, KeyToken, Profile};

use super::samples::with;

/// As its README prints it.
const KE: [u8; 24] = *b"\x48\xfc\x53\xa4\x84\x74\xfb\xd5\x20\x49\x0c\x91\x09\xbf\x08\xc0\
    \x9b\x1d\x0b\x7b\x24\xe4\x80\x33";

#[test]
fn the_token_verifies_and_opens() {
    with("aws-2012", |samples| {
        let token = KeyToken::parse(Profile::Aws2012, &samples.read("tdes-k1.token.der")).unwrap();
        let kdh = samples.certified("tdes-k1.kdh.cert.pem");
        assert!(kdh.signed(token.signed_by()));
        let ca = samples.certified("tdes-k1.kdh-ca.cert.pem");
        assert!(!ca.signed(token.signed_by()));

        with("tr34-2019", |annex_b| {
            let krd = annex_b.private_key("b.2.1.7-krd-1.key.pem");
            let recipient = annex_b.certified("b.2.1.7-krd-1.cert.pem");
            let enveloped = token.enveloped();
            assert_eq!(enveloped.recipient(), &recipient.id);
            let ke = unwrap_ke(&krd, &token).unwrap();
            assert_eq!(ke, KE);
            let block = open_key_block(enveloped, &ke).unwrap();
            assert_eq!(block, samples.read("tdes-k1.be.der"));
            let block = KeyBlock::parse(Profile::Aws2012, &block).unwrap();
            assert_eq!(block.kdh(), token.signed_by().signer());
            assert_eq!(block.header(), token.header());
        });
    });
}
