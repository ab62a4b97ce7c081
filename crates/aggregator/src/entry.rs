//! Entry: who may have which ID.
//!
//! A device proves who it is by what its maker knows of it: an address that is its alone, or a secret. Where
//! nobody made the fleet, a secret of all keeps strangers out, and one address has a share of the IDs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fl_proto::Word;

use crate::roster::{JoinError, Newcomer};

/// Proof by which its maker knows a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its requests come from this address, and nobody else's do.
    Address(IpAddr),
    /// It knows this secret, and nobody else does.
    Secret(Word),
}

/// Rules of entry; by default anybody may join as anybody.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Proof of each device of a fleet, by client. If there is one, nobody else may join.
    pub fleet: Option<BTreeMap<u32, Proof>>,
    /// Secret that every device has to know.
    pub secret: Option<Word>,
    /// IDs that one address may have, unless it is this machine's own.
    pub per_address: Option<u32>,
}

impl Proof {
    fn is_given_by(&self, newcomer: &Newcomer) -> bool {
        match self {
            Self::Address(address) => *address == newcomer.source.to_canonical(),
            Self::Secret(secret) => newcomer.secret == Some(*secret),
        }
    }
}

impl Entry {
    /// The ID that a newcomer has proved to be its own; `None` where no proof is asked for.
    ///
    /// # Errors
    /// [`JoinError`] if it has to prove something and does not.
    pub(crate) fn proven(
        &self,
        wish: Option<u32>,
        newcomer: &Newcomer,
    ) -> Result<Option<u32>, JoinError> {
        if self.secret.is_some() && self.secret != newcomer.secret {
            return Err(JoinError::NoSecret);
        }
        let Some(fleet) = &self.fleet else {
            return Ok(None);
        };
        let Some(wish) = wish else {
            let own = fleet.iter().find(|(_, proof)| proof.is_given_by(newcomer));
            return match own {
                Some((id, _)) => Ok(Some(*id)),
                None => Err(JoinError::Stranger(newcomer.source)),
            };
        };
        match fleet.get(&wish) {
            None => Err(JoinError::NoDevice(wish)),
            Some(proof) if proof.is_given_by(newcomer) => Ok(Some(wish)),
            Some(Proof::Address(expected)) => Err(JoinError::Elsewhere {
                id: wish,
                expected: *expected,
                from: newcomer.source,
            }),
            Some(Proof::Secret(_)) => Err(JoinError::Impostor(wish)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::broadcast::Form;
    use std::net::SocketAddr;

    /// A newcomer at an address of this last number.
    pub fn newcomer(last: u8, secret: Option<Word>) -> Newcomer {
        let address = SocketAddr::from(([192, 0, 2, last], 80));
        Newcomer {
            address,
            source: address.ip(),
            is_own_machine: false,
            word: None,
            secret,
            form: Form::default(),
            evaluates: false,
        }
    }

    #[test]
    fn a_device_of_a_fleet_is_who_its_maker_says() {
        let secret = |byte| Word::random([byte; 16]);
        let at = |last| Proof::Address([192, 0, 2, last].into());
        let fleet = [(0, at(2)), (1, at(3)), (4, Proof::Secret(secret(4)))];
        let entry = Entry {
            fleet: Some(fleet.into()),
            ..Entry::default()
        };
        let proven = |wish, last, secret| entry.proven(wish, &newcomer(last, secret));
        assert_eq!(proven(Some(0), 2, None), Ok(Some(0)));
        assert_eq!(proven(None, 3, None), Ok(Some(1)));
        assert_eq!(proven(None, 9, Some(secret(4))), Ok(Some(4)));
        for (wish, last) in [(0, 3), (0, 9), (1, 2)] {
            let refused = proven(Some(wish), last, Some(secret(4))).unwrap_err();
            assert!(matches!(refused, JoinError::Elsewhere { .. }), "{refused}");
        }
        for shown in [None, Some(secret(5))] {
            assert_eq!(proven(Some(4), 2, shown), Err(JoinError::Impostor(4)));
            let stranger = JoinError::Stranger([192, 0, 2, 9].into());
            assert_eq!(proven(None, 9, shown), Err(stranger));
        }
        assert_eq!(proven(Some(2), 2, None), Err(JoinError::NoDevice(2)));
    }

    #[test]
    fn a_secret_of_all_keeps_strangers_out() {
        let secret: Word = "correct-horse-battery".parse().unwrap();
        let entry = Entry {
            secret: Some(secret),
            ..Entry::default()
        };
        let proven = |shown| entry.proven(Some(0), &newcomer(2, shown));
        assert_eq!(proven(Some(secret)), Ok(None));
        for shown in [None, Some(Word::random([1; 16]))] {
            assert_eq!(proven(shown), Err(JoinError::NoSecret));
        }
    }
}
