//! What of Istio's objects is most likely not meant, each once however many things tell of it.

use std::collections::BTreeMap;

use super::Trouble;

#[derive(Default)]
pub(super) struct Troubles {
    all: BTreeMap<Trouble, u32>,
}

impl Troubles {
    pub(super) fn add<'t>(&mut self, troubles: impl IntoIterator<Item = &'t Trouble>) {
        for trouble in troubles {
            match self.all.get_mut(trouble) {
                Some(count) => *count += 1,
                None => _ = self.all.insert(trouble.clone(), 1),
            }
        }
    }

    /// Takes back what was added once.
    pub(super) fn remove<'t>(&mut self, troubles: impl IntoIterator<Item = &'t Trouble>) {
        for trouble in troubles {
            let Some(count) = self.all.get_mut(trouble) else { continue };
            *count -= 1;
            if *count == 0 {
                self.all.remove(trouble);
            }
        }
    }

    /// All, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Trouble> {
        self.all.keys()
    }
}
