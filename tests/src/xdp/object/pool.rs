//! Loaded objects, used by one test after the other: the verifier takes seconds over each.
use super::{Globals, Object};
use anyhow::Result;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

static FREE: Mutex<Vec<(String, Globals, Object)>> = Mutex::new(Vec::new());

/// An object that others get when this one is dropped. Its maps are as they were left.
pub struct Loan {
    program: String,
    globals: Globals,
    object: Option<Object>,
}

impl Loan {
    /// One that is free, or a new one.
    pub fn of(program: &str, globals: Globals) -> Result<Self> {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free.iter().position(|(p, g, _)| p == program && *g == globals);
        let found = found.map(|at| free.swap_remove(at).2);
        drop(free);
        let object = match found {
            Some(object) => object,
            None => Object::load(program, globals)?,
        };
        Ok(Self {
            program: program.to_owned(),
            globals,
            object: Some(object),
        })
    }
}

impl Deref for Loan {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Object {
        self.object.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            free.push((self.program.clone(), self.globals, object));
        }
    }
}
