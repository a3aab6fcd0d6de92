//! A certificate for the server's own name, signed by the authority of a test network.
//!
//! Invariants: key and certificate are new at each start and never stored; the name is a subject
//! alternative name, because verifiers ignore the common name.

use std::{path::Path, sync::Arc};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign,
};
use wick_core::config::Listen;
use yasna::{
    ASN1Error, ASN1ErrorKind, Tag,
    tags::{TAG_PRINTABLESTRING, TAG_UTF8STRING},
};

use crate::Failure;

/// What an authority's key may sign with, the best known first.
const SCHEMES: [(SignatureScheme, &SignatureAlgorithm); 4] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
    (SignatureScheme::ED25519, &rcgen::PKCS_ED25519),
    (SignatureScheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
];

/// A chain of one certificate for `host`, and its key.
pub(super) fn issue(
    listen: &Listen,
    host: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
    let (certificate, key) = (&listen.tls_ca_certificate, &listen.tls_ca_key);
    let unusable = |path: &Path| {
        let path = path.display().to_string();
        move |error: &dyn std::fmt::Display| {
            Failure::because(format_args!("the authority's {path} cannot be used"), error)
        }
    };
    let authority = Authority::read(key).map_err(|error| unusable(key)(&error))?;
    let issuer = CertificateDer::from_pem_file(certificate)
        .map_err(|error| unusable(certificate)(&error))?;
    let mut named = CertificateParams::default();
    named.distinguished_name = subject(&issuer).map_err(|error| unusable(certificate)(&error))?;
    let issuer = Issuer::from_params(&named, authority);

    let issued = KeyPair::generate().and_then(|own| {
        let mut wanted = CertificateParams::new([host.to_owned()])?;
        wanted.distinguished_name = DistinguishedName::new();
        wanted.distinguished_name.push(DnType::CommonName, host);
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok((wanted.signed_by(&own, &issuer)?, own))
    });
    let (made, own) =
        issued.map_err(|error| Failure::because("no certificate could be made", error))?;
    let own = PrivatePkcs8KeyDer::from(own.serialize_der());
    Ok((vec![made.der().clone()], own.into()))
}

/// The subject of a certificate, whose every letter the issuer of what it signs must repeat
/// (RFC 5280 §4.1).
fn subject(certificate: &[u8]) -> Result<DistinguishedName, ASN1Error> {
    let invalid = || ASN1Error::new(ASN1ErrorKind::Invalid);
    let mut name = DistinguishedName::new();
    yasna::parse_der(certificate, |reader| {
        reader.read_sequence(|certificate| {
            certificate.next().read_sequence(|signed| {
                let version = Tag::context(0);
                signed.read_optional(|reader| reader.read_tagged(version, |it| it.read_u8()))?;
                for _serial_algorithm_issuer_validity in 0..4 {
                    signed.next().read_der()?;
                }
                signed.next().read_sequence_of(|part| {
                    part.read_set_of(|attribute| {
                        let (kind, value) = attribute.read_sequence(|pair| {
                            Ok((pair.next().read_oid()?, pair.next().read_tagged_der()?))
                        })?;
                        let text = str::from_utf8(value.value()).map_err(|_| invalid())?.to_owned();
                        let text = match value.tag() {
                            TAG_UTF8STRING => DnValue::Utf8String(text),
                            TAG_PRINTABLESTRING => {
                                DnValue::PrintableString(text.try_into().map_err(|_| invalid())?)
                            }
                            _ => return Err(invalid()),
                        };
                        name.push(DnType::from_oid(kind.components()), text);
                        Ok(())
                    })
                })?;
                while signed.read_optional(|rest| rest.read_der())?.is_some() {}
                Ok(())
            })?;
            while certificate.read_optional(|rest| rest.read_der())?.is_some() {}
            Ok(())
        })
    })?;
    Ok(name)
}

/// The authority's key, in any of the forms that rustls reads.
struct Authority {
    key: Arc<dyn sign::SigningKey>,
    scheme: SignatureScheme,
    algorithm: &'static SignatureAlgorithm,
}

impl Authority {
    fn read(path: &Path) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_file(path).map_err(|error| error.to_string())?;
        let key = any_supported_type(&key).map_err(|error| error.to_string())?;
        let (scheme, algorithm) = SCHEMES
            .into_iter()
            .find(|(scheme, _)| key.choose_scheme(&[*scheme]).is_some())
            .ok_or("no known way to sign with it")?;
        Ok(Self { key, scheme, algorithm })
    }
}

impl PublicKeyData for Authority {
    /// Nothing: only an authority key identifier would be made of it, and none is asked for.
    fn der_bytes(&self) -> &[u8] {
        &[]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Authority {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key
            .choose_scheme(&[self.scheme])
            .and_then(|signer| signer.sign(message).ok())
            .ok_or(rcgen::Error::RemoteKeyError)
    }
}
