//! Reading the PROXY protocol header of a client that is itself a proxy.
use super::session::{Due, Stage};
use super::slab::Id;
use super::table::count;
use super::worker::Worker;
use lb_common::wire::proxy::{Decoded, LONGEST, decode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

impl Worker {
    /// Looks at the first bytes; takes the header away once the whole of it is there.
    pub(super) fn read_header(&mut self, id: Id) {
        let (lent, sessions) = self.lend();
        let Some(session) = sessions.get(id) else {
            return;
        };
        let room = lent.buffer.get_mut(..LONGEST).unwrap_or_default();
        let seen = match recv(&session.client, &mut *room, RecvFlags::PEEK) {
            Ok((n @ 1.., _)) => n,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(_) | Err(_) => {
                self.end(id, true);
                return;
            }
        };
        let decoded = decode(room.get(..seen).unwrap_or_default());
        match decoded {
            Ok(Decoded::Partial) if !session.up.hung_up => {}
            Ok(Decoded::Header { length, addresses }) => {
                let header = room.get_mut(..length).unwrap_or_default();
                if !matches!(recv(&session.client, header, RecvFlags::empty()), Ok((n, _)) if n == length) {
                    self.end(id, true);
                    return;
                }
                session.addresses = addresses.map(Box::new);
                session.stage = Stage::Queued;
                self.set_due(id, Due::Nothing);
                self.dial(id);
            }
            Ok(Decoded::Partial) | Err(_) => {
                let number = session.service;
                let refusal = decoded.err();
                if let Some(service) = self.service(number) {
                    count(&service.counters.headless);
                    self.say.headless(service.key, refusal, self.now);
                }
                self.end(id, true);
            }
        }
    }
}
