/*
 * Bouncy Castle as another reader of TR-34 tokens, and as another maker of them. For tests only: keys
 * come from files, and the key that a token carries is printed.
 *
 *   java -cp CLASSPATH Tr34Reader.java verify          --token FILE --signer-cert PEM
 *   java -cp CLASSPATH Tr34Reader.java verify-and-open --token FILE --signer-cert PEM
 *                                                      --recipient-cert PEM --recipient-key PEM
 *   java -cp CLASSPATH Tr34Reader.java credentials     --token FILE
 *   java -cp CLASSPATH Tr34Reader.java make-clover     --out FOLDER --krd-cert PEM --kdh-cert PEM --kdh-key PEM
 *                                                      --new-kdh-cert PEM --ca-krd-cert PEM --ca-krd-key PEM
 *                                                      --crl DER --nonce HEX --kn HEX --header TEXT
 *
 * CLASSPATH has bcprov.jar, bcutil.jar and bcpkix.jar. Private keys are PKCS#8. `verify` takes any signed
 * token and does not decrypt. The first three print one JSON object of strings; every refusal is a line on
 * standard error and exit status 1.
 */

import java.io.ByteArrayOutputStream;
import java.io.FileReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Security;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;

import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.ASN1EncodableVector;
import org.bouncycastle.asn1.ASN1Encoding;
import org.bouncycastle.asn1.ASN1InputStream;
import org.bouncycastle.asn1.ASN1Integer;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.ASN1Primitive;
import org.bouncycastle.asn1.ASN1Sequence;
import org.bouncycastle.asn1.ASN1Set;
import org.bouncycastle.asn1.DERNull;
import org.bouncycastle.asn1.DEROctetString;
import org.bouncycastle.asn1.DERSequence;
import org.bouncycastle.asn1.DERSet;
import org.bouncycastle.asn1.cms.Attribute;
import org.bouncycastle.asn1.cms.AttributeTable;
import org.bouncycastle.asn1.cms.CMSAttributes;
import org.bouncycastle.asn1.cms.CMSObjectIdentifiers;
import org.bouncycastle.asn1.cms.ContentInfo;
import org.bouncycastle.asn1.cms.EnvelopedData;
import org.bouncycastle.asn1.cms.IssuerAndSerialNumber;
import org.bouncycastle.asn1.cms.SignedData;
import org.bouncycastle.asn1.cms.Time;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.RSAESOAEPparams;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.cert.X509CRLHolder;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cms.CMSAbsentContent;
import org.bouncycastle.cms.CMSAlgorithm;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedDataGenerator;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.CMSSignedDataGenerator;
import org.bouncycastle.cms.DefaultSignedAttributeTableGenerator;
import org.bouncycastle.cms.KeyTransRecipientId;
import org.bouncycastle.cms.KeyTransRecipientInformation;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSignerInfoGeneratorBuilder;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.cms.jcajce.JceCMSContentEncryptorBuilder;
import org.bouncycastle.cms.jcajce.JceKeyTransEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientInfoGenerator;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.PEMParser;
import org.bouncycastle.operator.jcajce.JcaAlgorithmParametersConverter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.util.encoders.Hex;
import org.bouncycastle.util.io.pem.PemReader;

public final class Tr34Reader {

    /** PKCS #9's randomNonce, which Bouncy Castle has no name for. */
    private static final ASN1ObjectIdentifier RANDOM_NONCE =
            new ASN1ObjectIdentifier("1.2.840.113549.1.9.25.3");

    /** TR-34 has the key block header as an attribute of this type. */
    private static final ASN1ObjectIdentifier HEADER = CMSObjectIdentifiers.data;

    public static void main(String[] arguments) {
        try {
            Security.addProvider(new BouncyCastleProvider());
            require(arguments.length > 0, "which job?");
            Options options = new Options(arguments);
            switch (arguments[0]) {
                case "verify":
                    print(new SignedToken(options).report);
                    break;
                case "verify-and-open":
                    SignedToken token = new SignedToken(options);
                    token.open(options);
                    print(token.report);
                    break;
                case "credentials":
                    print(credentials(options));
                    break;
                case "make-clover":
                    new CloverHost(options).makeAll(options.path("out"));
                    break;
                default:
                    throw new Refused("no such job: " + arguments[0]);
            }
        } catch (Exception e) {
            System.err.println("Tr34Reader: " + e);
            System.exit(1);
        }
    }

    // ---- reading --------------------------------------------------------------------------------

    /** A token with its one signature verified. */
    private static final class SignedToken {
        final Map<String, String> report = new LinkedHashMap<>();
        private final IssuerAndSerialNumber signer;
        private final byte[] content;
        private final byte[] header;

        SignedToken(Options options) throws Exception {
            byte[] encoded = options.bytes("token");
            X509CertificateHolder certificate = options.certificate("signer-cert");
            CMSSignedData token = new CMSSignedData(contentInfo(encoded));

            Collection<SignerInformation> signers = token.getSignerInfos().getSigners();
            require(signers.size() == 1, signers.size() + " signers");
            SignerInformation signature = signers.iterator().next();
            require(signature.getSID().getIssuer() != null, "the signer is not named by issuer and serial number");
            require(signature.getSID().match(certificate), "another certificate signed");
            // This also compares contentType, messageDigest and CMSAlgorithmProtection with what they are
            // about, and a signing time with the certificate's validity.
            require(
                    signature.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(certificate)),
                    "the signature is not the signer's");

            signer = identity(certificate);
            content = (byte[]) token.getSignedContent().getContent();
            SignedData fields = SignedData.getInstance(token.toASN1Structure().getContent());
            report.put("der", "yes");
            noteDer(encoded);
            report.put("version", fields.getVersion().toString());
            report.put("content-type", token.getSignedContentTypeOID());
            report.put("signer", name(signer));
            report.put("digest-algorithm", algorithm(signature.getDigestAlgorithmID()));
            report.put("signature-algorithm", algorithm(signature.toASN1Structure().getDigestEncryptionAlgorithm()));
            report.put("certificates", String.valueOf(token.getCertificates().getMatches(null).size()));
            report.put("crls", String.valueOf(token.getCRLs().getMatches(null).size()));
            header = attributes(signature);
            contents(token.getSignedContentTypeOID());
        }

        /** Keeps it in mind if an element is not written as DER has it. */
        private void noteDer(byte[] element) throws IOException {
            if (!isDer(element)) {
                report.put("der", "no");
            }
        }

        /** Reports the signed attributes and returns the header among them, if there is one. */
        private byte[] attributes(SignerInformation signature) throws Exception {
            // As they stand: the table has no order.
            ASN1Set set = signature.toASN1Structure().getAuthenticatedAttributes();
            if (set == null) {
                report.put("attributes", "");
                return null;
            }
            List<String> types = new ArrayList<>();
            for (ASN1Encodable attribute : set) {
                types.add(Attribute.getInstance(attribute).getAttrType().getId());
            }
            report.put("attributes", String.join(" ", types));
            if (!Arrays.equals(set.getEncoded(ASN1Encoding.DL), set.getEncoded(ASN1Encoding.DER))) {
                report.put("der", "no");
            }
            AttributeTable table = signature.getSignedAttributes();
            Attribute time = table.get(CMSAttributes.signingTime);
            if (time != null) {
                report.put("signing-time", DateTimeFormatter.ISO_INSTANT.withZone(ZoneOffset.UTC)
                        .format(Time.getInstance(only(time)).getDate().toInstant()));
            }
            Attribute nonce = table.get(RANDOM_NONCE);
            if (nonce != null) {
                report.put("nonce", hex(octets(only(nonce))));
            }
            Attribute signed = table.get(HEADER);
            if (signed == null) {
                return null;
            }
            report.put("header", new String(octets(only(signed)), StandardCharsets.US_ASCII));
            return octets(only(signed));
        }

        /** What is signed, and so which token this is. */
        private void contents(String type) throws Exception {
            if (type.equals(CMSObjectIdentifiers.envelopedData.getId())) {
                report.put("kind", "KT_KDH");
                return;
            }
            byte[] pair = content;
            String verb = "UBT";
            if (type.equals(CMSObjectIdentifiers.signedData.getId())) {
                noteDer(content);
                SignedData inner = SignedData.getInstance(ASN1Primitive.fromByteArray(content));
                require(inner.getSignerInfos().size() == 0, "the inner SignedData is signed");
                require(inner.getCertificates() != null && inner.getCertificates().size() == 1,
                        "not one new certificate");
                byte[] certificate = inner.getCertificates().getObjectAt(0).toASN1Primitive().getEncoded();
                report.put("new-kdh-certificate", hex(new X509CertificateHolder(certificate).getEncoded()));
                require(HEADER.equals(inner.getEncapContentInfo().getContentType()), "the inner content is not data");
                pair = octets(inner.getEncapContentInfo().getContent());
                verb = "RBT";
            } else {
                require(type.equals(CMSObjectIdentifiers.data.getId()), "content of type " + type);
            }
            List<IssuerAndSerialNumber> named = new ArrayList<>();
            try (ASN1InputStream stream = new ASN1InputStream(pair)) {
                for (ASN1Primitive next = stream.readObject(); next != null; next = stream.readObject()) {
                    named.add(IssuerAndSerialNumber.getInstance(next));
                }
            }
            require(named.size() == 1 || named.size() == 2, named.size() + " identities");
            report.put("kind", verb + (named.size() == 1 ? "_KDH" : "_CA"));
            report.put("krd", name(named.get(0)));
            if (named.size() == 2) {
                report.put("kdh", name(named.get(1)));
            }
        }

        /** Decrypts a key token and compares what the block says with what was signed. */
        void open(Options options) throws Exception {
            require("KT_KDH".equals(report.get("kind")), "a " + report.get("kind") + " is not encrypted");
            noteDer(content);
            CMSEnvelopedData enveloped = new CMSEnvelopedData(new ContentInfo(
                    CMSObjectIdentifiers.envelopedData,
                    EnvelopedData.getInstance(ASN1Primitive.fromByteArray(content))));
            Collection<RecipientInformation> recipients = enveloped.getRecipientInfos().getRecipients();
            require(recipients.size() == 1, recipients.size() + " recipients");
            RecipientInformation recipient = recipients.iterator().next();
            require(recipient instanceof KeyTransRecipientInformation, "not encrypted for an RSA key");
            X509CertificateHolder certificate = options.certificate("recipient-cert");
            KeyTransRecipientId named = (KeyTransRecipientId) recipient.getRID();
            require(identity(certificate).equals(new IssuerAndSerialNumber(named.getIssuer(), named.getSerialNumber())),
                    "it is for another recipient");
            require(recipient.getKeyEncryptionAlgOID().equals(PKCSObjectIdentifiers.id_RSAES_OAEP.getId()),
                    "not RSAES-OAEP: " + recipient.getKeyEncryptionAlgOID());
            RSAESOAEPparams oaep = RSAESOAEPparams.getInstance(
                    ASN1Primitive.fromByteArray(recipient.getKeyEncryptionAlgParams()));
            report.put("recipient", name(identity(certificate)));
            report.put("oaep-hash", algorithm(oaep.getHashAlgorithm()));
            report.put("oaep-mgf-hash",
                    algorithm(AlgorithmIdentifier.getInstance(oaep.getMaskGenAlgorithm().getParameters())));
            report.put("cipher", enveloped.getEncryptionAlgOID());

            byte[] block = recipient.getContent(
                    new JceKeyTransEnvelopedRecipient(options.privateKey("recipient-key")).setProvider("BC"));
            report.put("key-block", hex(block));
            ASN1Sequence parts = ASN1Sequence.getInstance(ASN1Primitive.fromByteArray(block));
            require(parts.size() == 4, parts.size() + " elements in the key block");
            report.put("key-block-version", ASN1Integer.getInstance(parts.getObjectAt(0)).toString());
            require(IssuerAndSerialNumber.getInstance(parts.getObjectAt(1)).equals(signer),
                    "the key block is of another KDH");
            require(Arrays.equals(headerInside(parts.getObjectAt(3)), header), "the key block has another header");
            report.put("kn", hex(octets(parts.getObjectAt(2))));
        }

        /** An attribute in the samples, a plain OCTET STRING in Annex D. */
        private static byte[] headerInside(ASN1Encodable element) throws Refused {
            if (element instanceof ASN1OctetString) {
                return octets(element);
            }
            Attribute attribute = Attribute.getInstance(element);
            require(attribute.getAttrType().equals(HEADER), "no header in the key block");
            return octets(only(attribute));
        }
    }

    /** CT_KRD or CT_KDH. Nothing in it is signed as a token, so nothing is verified. */
    private static Map<String, String> credentials(Options options) throws Exception {
        byte[] encoded = options.bytes("token");
        CMSSignedData token = new CMSSignedData(contentInfo(encoded));
        require(token.getSignerInfos().size() == 0, "it is signed");
        Collection<X509CertificateHolder> certificates = token.getCertificates().getMatches(null);
        Collection<X509CRLHolder> crls = token.getCRLs().getMatches(null);
        require(certificates.size() == 1, certificates.size() + " certificates");
        require(crls.size() <= 1, crls.size() + " revocation lists");
        Map<String, String> report = new LinkedHashMap<>();
        report.put("der", isDer(encoded) ? "yes" : "no");
        report.put("kind", crls.isEmpty() ? "CT_KRD" : "CT_KDH");
        report.put("certificate", hex(certificates.iterator().next().getEncoded()));
        for (X509CRLHolder crl : crls) {
            report.put("crl", hex(crl.getEncoded()));
        }
        return report;
    }

    // ---- making ---------------------------------------------------------------------------------

    /**
     * Makes tokens as the host in github.com/clover/clover-tr34-host does: with the same calls of Bouncy
     * Castle, so that everything it adds is in them (the signing time, CMSAlgorithmProtection, the empty
     * list of CRLs in a rebind token).
     */
    private static final class CloverHost {
        private final X509CertificateHolder krd;
        private final X509CertificateHolder kdh;
        private final X509CertificateHolder newKdh;
        private final X509CertificateHolder caKrd;
        private final PrivateKey kdhKey;
        private final PrivateKey caKrdKey;
        private final X509CRLHolder crl;
        private final Attribute nonce;
        private final Attribute header;
        private final byte[] kn;

        CloverHost(Options options) throws Exception {
            krd = options.certificate("krd-cert");
            kdh = options.certificate("kdh-cert");
            newKdh = options.certificate("new-kdh-cert");
            caKrd = options.certificate("ca-krd-cert");
            kdhKey = options.privateKey("kdh-key");
            caKrdKey = options.privateKey("ca-krd-key");
            crl = new X509CRLHolder(options.bytes("crl"));
            nonce = attribute(RANDOM_NONCE, Hex.decode(options.text("nonce")));
            header = attribute(HEADER, options.text("header").getBytes(StandardCharsets.US_ASCII));
            kn = Hex.decode(options.text("kn"));
        }

        void makeAll(Path folder) throws Exception {
            byte[] forKrd = identity(krd).getEncoded();
            byte[] forPair = concatenated(forKrd, identity(kdh).getEncoded());
            Map<String, CMSSignedData> tokens = new LinkedHashMap<>();
            tokens.put("kt-kdh", sign(kdh, kdhKey, CMSObjectIdentifiers.envelopedData, enveloped(), header, nonce));
            tokens.put("ubt-kdh", sign(kdh, kdhKey, CMSObjectIdentifiers.data, forKrd, nonce));
            tokens.put("rbt-kdh", sign(kdh, kdhKey, CMSObjectIdentifiers.signedData, rebindTo(forKrd), nonce));
            tokens.put("ubt-ca", sign(caKrd, caKrdKey, CMSObjectIdentifiers.data, forPair));
            tokens.put("rbt-ca", sign(caKrd, caKrdKey, CMSObjectIdentifiers.signedData, rebindTo(forPair)));
            tokens.put("ct-krd", credential(krd, null));
            tokens.put("ct-kdh", credential(kdh, crl));
            for (Map.Entry<String, CMSSignedData> token : tokens.entrySet()) {
                Files.write(folder.resolve(token.getKey() + ".der"), token.getValue().getEncoded());
            }
        }

        private static CMSSignedData sign(X509CertificateHolder signer, PrivateKey key,
                ASN1ObjectIdentifier type, byte[] content, Attribute... attributes) throws Exception {
            ASN1EncodableVector own = new ASN1EncodableVector();
            own.addAll(attributes);
            CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
            generator.setDefiniteLengthEncoding(true);
            generator.addSignerInfoGenerator(
                    new JcaSignerInfoGeneratorBuilder(new JcaDigestCalculatorProviderBuilder().build())
                            .setSignedAttributeGenerator(
                                    new DefaultSignedAttributeTableGenerator(new AttributeTable(own)))
                            .build(new JcaContentSignerBuilder("SHA256withRSA").setProvider("BC").build(key), signer));
            return generator.generate(new CMSProcessableByteArray(type, content), true);
        }

        private byte[] enveloped() throws Exception {
            byte[] block = new DERSequence(new ASN1Encodable[] {
                new ASN1Integer(1), identity(kdh), new DEROctetString(kn), header
            }).getEncoded();
            AlgorithmIdentifier oaep = new JcaAlgorithmParametersConverter().getAlgorithmIdentifier(
                    PKCSObjectIdentifiers.id_RSAES_OAEP,
                    new OAEPParameterSpec("SHA-256", "MGF1", MGF1ParameterSpec.SHA256, PSource.PSpecified.DEFAULT));
            CMSEnvelopedDataGenerator generator = new CMSEnvelopedDataGenerator();
            generator.addRecipientInfoGenerator(new JceKeyTransRecipientInfoGenerator(
                    new JcaX509CertificateConverter().getCertificate(krd), oaep).setProvider("BC"));
            CMSEnvelopedData enveloped = generator.generate(new CMSProcessableByteArray(block),
                    new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES128_CBC).setProvider("BC").build());
            ASN1Encodable fields = enveloped.toASN1Structure().getContent();
            // What the generator leaves is of indefinite length.
            return EnvelopedData.getInstance(fields).getEncoded(ASN1Encoding.DL);
        }

        /** The SignedData without signers that a rebind token has inside. */
        private byte[] rebindTo(byte[] identities) throws IOException {
            ASN1Set none = new DERSet();
            return new SignedData(none, new ContentInfo(CMSObjectIdentifiers.data, new DEROctetString(identities)),
                    new DERSet(newKdh.toASN1Structure()), none, none).getEncoded();
        }

        private static CMSSignedData credential(X509CertificateHolder holder, X509CRLHolder crl) throws Exception {
            CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
            generator.setDefiniteLengthEncoding(true);
            generator.addCertificate(holder);
            if (crl != null) {
                generator.addCRL(crl);
            }
            return generator.generate(new CMSAbsentContent());
        }

        private static Attribute attribute(ASN1ObjectIdentifier type, byte[] octets) {
            return new Attribute(type, new DERSet(new DEROctetString(octets)));
        }
    }

    // ---- what both need -------------------------------------------------------------------------

    private static ContentInfo contentInfo(byte[] encoded) throws IOException {
        // Refuses bytes behind it, which a reader of streams would leave unread.
        return ContentInfo.getInstance(ASN1Primitive.fromByteArray(encoded));
    }

    private static boolean isDer(byte[] encoded) throws IOException {
        return Arrays.equals(encoded, ASN1Primitive.fromByteArray(encoded).getEncoded(ASN1Encoding.DER));
    }

    private static IssuerAndSerialNumber identity(X509CertificateHolder certificate) {
        return new IssuerAndSerialNumber(certificate.toASN1Structure());
    }

    /** In DER, so that nobody has to agree on how names are written. */
    private static String name(IssuerAndSerialNumber identity) throws IOException {
        return hex(identity.getEncoded(ASN1Encoding.DER));
    }

    /** The identifier, and "+NULL" where such parameters stand behind it. */
    private static String algorithm(AlgorithmIdentifier value) {
        return value.getAlgorithm().getId() + (DERNull.INSTANCE.equals(value.getParameters()) ? "+NULL" : "");
    }

    private static ASN1Encodable only(Attribute attribute) throws Refused {
        require(attribute.getAttrValues().size() == 1, attribute.getAttrType() + " has not one value");
        return attribute.getAttrValues().getObjectAt(0);
    }

    private static byte[] octets(ASN1Encodable value) {
        return ASN1OctetString.getInstance(value).getOctets();
    }

    private static byte[] concatenated(byte[] first, byte[] second) throws IOException {
        ByteArrayOutputStream both = new ByteArrayOutputStream();
        both.write(first);
        both.write(second);
        return both.toByteArray();
    }

    private static String hex(byte[] bytes) {
        return Hex.toHexString(bytes);
    }

    private static void print(Map<String, String> report) {
        System.out.println(report.entrySet().stream()
                .map(line -> "  " + quoted(line.getKey()) + ": " + quoted(line.getValue()))
                .collect(Collectors.joining(",\n", "{\n", "\n}")));
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    private static void require(boolean holds, String otherwise) throws Refused {
        if (!holds) {
            throw new Refused(otherwise);
        }
    }

    private static final class Refused extends Exception {
        private static final long serialVersionUID = 1;

        Refused(String why) {
            super(why);
        }

        @Override
        public String toString() {
            return getMessage();
        }
    }

    /** The command line: pairs of --name and value. */
    private static final class Options {
        private final Map<String, String> values = new LinkedHashMap<>();

        Options(String[] arguments) throws Refused {
            require(arguments.length % 2 == 1, "options are pairs: --name value");
            for (int i = 1; i < arguments.length; i += 2) {
                require(arguments[i].startsWith("--"), "no option: " + arguments[i]);
                values.put(arguments[i].substring(2), arguments[i + 1]);
            }
        }

        String text(String name) throws Refused {
            require(values.containsKey(name), "--" + name + " is missing");
            return values.get(name);
        }

        Path path(String name) throws Refused {
            return Path.of(text(name));
        }

        byte[] bytes(String name) throws Exception {
            return Files.readAllBytes(path(name));
        }

        X509CertificateHolder certificate(String name) throws Exception {
            try (PEMParser parser = new PEMParser(new FileReader(path(name).toFile()))) {
                return (X509CertificateHolder) parser.readObject();
            }
        }

        PrivateKey privateKey(String name) throws Exception {
            try (PemReader reader = new PemReader(new FileReader(path(name).toFile()))) {
                return KeyFactory.getInstance("RSA")
                        .generatePrivate(new PKCS8EncodedKeySpec(reader.readPemObject().getContent()));
            }
        }
    }
}
