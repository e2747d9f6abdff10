//! IPVS as methods: each one question to the kernel, and on top of them the idempotent ones that a plan is applied with.
use super::codec::{
    Attributes, DecodeError, EncodeError, ForeignDestination, ForeignService, Info, ObservedDaemon,
    ObservedDestination, ReadDestination, ReadService, Stats, SyncOptions, Timeouts, read_daemon,
    read_destination, read_info, read_service, read_timeouts, write_daemon, write_daemon_role,
    write_destination, write_destination_key, write_service, write_service_key, write_timeouts,
};
use super::error::{IpvsError, Operation};
use super::socket::{Ask, Failure, Socket};
use super::uapi::{Cmd, FAMILY_NAME, FAMILY_VERSION};
use lb_common::model::{Family, ServiceKey};
use lb_common::plan::{DaemonRole, Destination, Service, SyncDaemon};
use nix::errno::Errno;
use std::net::IpAddr;

/// How often a list that changed while it was read is read again.
const READINGS: u32 = 8;

/// A virtual server as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its configuration.
    pub service: Service,
    /// Its real servers by address and port.
    pub destinations: Vec<ObservedDestination>,
    /// Its real servers that our types cannot say. Adding one of the same address and port changes it into ours.
    pub foreign: Vec<ForeignDestination>,
    /// Its counters.
    pub stats: Stats,
}

/// All that IPVS has in this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What our types can say, by key.
    pub services: Vec<Observed>,
    /// The rest: somebody else's, to be left alone.
    pub foreign: Vec<ForeignService>,
}

/// What an idempotent operation found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was not there.
    Added,
    /// It was there, and was written over.
    Set,
    /// It was there and is no more.
    Deleted,
    /// All was as it should be.
    Nothing,
}

/// IPVS in the network namespace of the thread that opened it.
pub struct Ipvs {
    socket: Socket,
    family: u16,
}

impl Ipvs {
    /// Finds IPVS; [`IpvsError::Unsupported`] where the kernel has none and cannot load it.
    pub fn open() -> Result<Self, IpvsError> {
        let mut socket = Socket::open().map_err(|source| IpvsError::Socket {
            operation: Operation::Open,
            source,
        })?;
        match socket.family(FAMILY_NAME) {
            Ok(Some(family)) => Ok(Self { socket, family }),
            Ok(None) => Err(IpvsError::Unsupported),
            Err(e) => Err(failed(Operation::Open, e)),
        }
    }

    /// Version and table size.
    pub fn info(&mut self) -> Result<Info, IpvsError> {
        self.ask_one(Cmd::GetInfo, Operation::ReadInfo, read_info)
    }

    /// The virtual servers that our types can say; [`Self::table`] has the others too.
    pub fn services(&mut self) -> Result<Vec<Observed>, IpvsError> {
        Ok(self.table()?.services)
    }

    /// Everything. The kernel never says that its list changed meanwhile (it sets no `NLM_F_DUMP_INTR` here) and a
    /// service that goes between the two questions has no real servers: what is wrong here is put right at the next look.
    pub fn table(&mut self) -> Result<Table, IpvsError> {
        let mut table = Table::default();
        for message in self.list(Cmd::GetService, &Operation::ListServices, &Attributes::new())? {
            match read_service(&message).map_err(|e| unreadable(Operation::ListServices, e))? {
                ReadService::Modelled(service, stats) => {
                    let (destinations, foreign) = self.destinations(&service.key)?;
                    table.services.push(Observed {
                        service,
                        destinations,
                        foreign,
                        stats,
                    });
                }
                // A dump can show one twice, see below.
                ReadService::Foreign(service) if table.foreign.contains(&service) => {}
                ReadService::Foreign(service) => table.foreign.push(service),
            }
        }
        // The kernel walks its hash table; a change between two datagrams of a dump can show a service twice.
        table.services.sort_by_key(|o| o.service.key);
        table.services.dedup_by_key(|o| o.service.key);
        Ok(table)
    }

    fn destinations(
        &mut self,
        key: &ServiceKey,
    ) -> Result<(Vec<ObservedDestination>, Vec<ForeignDestination>), IpvsError> {
        let operation = Operation::ListDestinations(*key);
        let question = written(&operation, write_service_key(key))?;
        let (mut ours, mut foreign) = (Vec::new(), Vec::new());
        for message in self.list(Cmd::GetDest, &operation, &question)? {
            match read_destination(&message, Family::of(key.address)) {
                Ok(ReadDestination::Modelled(d)) => ours.push(d),
                Ok(ReadDestination::Foreign(d)) => foreign.push(d),
                Err(e) => return Err(unreadable(operation, e)),
            }
        }
        // The kernel gives the newest first.
        ours.sort_by_key(|d| (d.destination.address, d.destination.port));
        ours.dedup_by_key(|d| (d.destination.address, d.destination.port));
        Ok((ours, foreign))
    }

    /// Adds a virtual server.
    pub fn add_service(&mut self, service: &Service) -> Result<(), IpvsError> {
        let operation = Operation::AddService(service.key, service.scheduler);
        self.tell(Cmd::NewService, operation, write_service(service))
    }

    /// Changes everything of a virtual server but its key. Connections stay.
    pub fn set_service(&mut self, service: &Service) -> Result<(), IpvsError> {
        let operation = Operation::SetService(service.key, service.scheduler);
        self.tell(Cmd::SetService, operation, write_service(service))
    }

    /// Deletes a virtual server with its real servers.
    pub fn delete_service(&mut self, key: &ServiceKey) -> Result<(), IpvsError> {
        self.tell(
            Cmd::DelService,
            Operation::DeleteService(*key),
            write_service_key(key),
        )
    }

    /// Adds a real server to a virtual server.
    pub fn add_destination(&mut self, service: &ServiceKey, d: &Destination) -> Result<(), IpvsError> {
        let operation = Operation::AddDestination(*service, d.address, d.port);
        self.tell(Cmd::NewDest, operation, write_destination(service, d))
    }

    /// Changes a real server. Connections stay, also with weight 0.
    pub fn set_destination(&mut self, service: &ServiceKey, d: &Destination) -> Result<(), IpvsError> {
        let operation = Operation::SetDestination(*service, d.address, d.port);
        self.tell(Cmd::SetDest, operation, write_destination(service, d))
    }

    /// Deletes a real server. Its connections are silently dropped from then on (or reset, by `expire_nodest_conn`).
    pub fn delete_destination(
        &mut self,
        service: &ServiceKey,
        address: IpAddr,
        port: u16,
    ) -> Result<(), IpvsError> {
        let operation = Operation::DeleteDestination(*service, address, port);
        self.tell(
            Cmd::DelDest,
            operation,
            write_destination_key(service, address, port),
        )
    }

    /// The connection timeouts of this network namespace.
    pub fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        self.ask_one(Cmd::GetConfig, Operation::ReadTimeouts, read_timeouts)
    }

    /// Changes them.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), IpvsError> {
        self.tell(Cmd::SetConfig, Operation::SetTimeouts, write_timeouts(timeouts))
    }

    /// The synchronisation daemons that run: none, one of a role, or one of each.
    pub fn daemons(&mut self) -> Result<Vec<ObservedDaemon>, IpvsError> {
        self.list(Cmd::GetDaemon, &Operation::ListDaemons, &Attributes::new())?
            .iter()
            .map(|m| read_daemon(m).map_err(|e| unreadable(Operation::ListDaemons, e)))
            .collect()
    }

    /// Starts a synchronisation daemon.
    pub fn start_daemon(&mut self, daemon: &SyncDaemon, options: &SyncOptions) -> Result<(), IpvsError> {
        let operation = Operation::StartDaemon(daemon.role, daemon.interface.clone());
        self.tell(Cmd::NewDaemon, operation, write_daemon(daemon, options))
    }

    /// Stops one. A thread that is stopped before it ever ran gives EINTR (`kthread_stop`), and `stop_sync_thread` in
    /// `net/netfilter/ipvs/ip_vs_sync.c` passes that on after it has stopped it: stopped all the same.
    pub fn stop_daemon(&mut self, role: DaemonRole) -> Result<(), IpvsError> {
        let operation = Operation::StopDaemon(role);
        match self.tell(Cmd::DelDaemon, operation, write_daemon_role(role)) {
            Err(e) if e.is(Errno::EINTR) => Ok(()),
            other => other,
        }
    }

    /// Zeroes the counters of one virtual server and its real servers, or of all.
    pub fn zero(&mut self, service: Option<&ServiceKey>) -> Result<(), IpvsError> {
        let question = service.map_or_else(|| Ok(Attributes::new()), write_service_key);
        self.tell(Cmd::Zero, Operation::Zero(service.copied()), question)
    }

    /// Sees to it that the virtual server is there, and is so.
    pub fn ensure_service(&mut self, service: &Service) -> Result<Changed, IpvsError> {
        match self.add_service(service) {
            Err(e) if e.is(Errno::EEXIST) => self.set_service(service).map(|()| Changed::Set),
            other => other.map(|()| Changed::Added),
        }
    }

    /// Sees to it that the virtual server is not there.
    pub fn remove_service(&mut self, key: &ServiceKey) -> Result<Changed, IpvsError> {
        gone(self.delete_service(key))
    }

    /// Sees to it that the virtual server has this real server, and that it is so.
    pub fn ensure_destination(
        &mut self,
        service: &ServiceKey,
        d: &Destination,
    ) -> Result<Changed, IpvsError> {
        match self.add_destination(service, d) {
            Err(e) if e.is(Errno::EEXIST) => self.set_destination(service, d).map(|()| Changed::Set),
            other => other.map(|()| Changed::Added),
        }
    }

    /// Sees to it that the virtual server, if it is there, has no such real server.
    pub fn remove_destination(
        &mut self,
        service: &ServiceKey,
        address: IpAddr,
        port: u16,
    ) -> Result<Changed, IpvsError> {
        gone(self.delete_destination(service, address, port))
    }

    /// Sees to it that this daemon runs. One of the same role that runs otherwise is stopped first: the kernel cannot
    /// change one. Options that are left out are not compared.
    pub fn ensure_daemon(
        &mut self,
        daemon: &SyncDaemon,
        options: &SyncOptions,
    ) -> Result<Changed, IpvsError> {
        match self.start_daemon(daemon, options) {
            Err(e) if e.is(Errno::EEXIST) => {
                if self.daemons()?.iter().any(|running| running.is(daemon, options)) {
                    return Ok(Changed::Nothing);
                }
                self.remove_daemon(daemon.role)?;
                self.start_daemon(daemon, options).map(|()| Changed::Set)
            }
            other => other.map(|()| Changed::Added),
        }
    }

    /// Sees to it that no daemon of this role runs.
    pub fn remove_daemon(&mut self, role: DaemonRole) -> Result<Changed, IpvsError> {
        gone(self.stop_daemon(role))
    }

    fn tell(
        &mut self,
        command: Cmd,
        operation: Operation,
        question: Result<Attributes, EncodeError>,
    ) -> Result<(), IpvsError> {
        let question = written(&operation, question)?;
        self.call(command, &operation, &question, Ask::Once).map(|_| ())
    }

    fn ask_one<T>(
        &mut self,
        command: Cmd,
        operation: Operation,
        read: impl FnOnce(&Attributes) -> Result<T, DecodeError>,
    ) -> Result<T, IpvsError> {
        let answers = self.call(command, &operation, &Attributes::new(), Ask::Once)?;
        // No message at all reads like one without attributes: what is missing is named.
        read(&answers.into_iter().next().unwrap_or_default()).map_err(|e| unreadable(operation, e))
    }

    fn list(
        &mut self,
        command: Cmd,
        operation: &Operation,
        question: &Attributes,
    ) -> Result<Vec<Attributes>, IpvsError> {
        for _ in 0..READINGS {
            match self.exchange(command, question, Ask::Dump) {
                Err(Failure::Interrupted) => {}
                other => return other.map_err(|e| failed(operation.clone(), e)),
            }
        }
        Err(IpvsError::Unstable {
            operation: operation.clone(),
            attempts: READINGS,
        })
    }

    fn call(
        &mut self,
        command: Cmd,
        operation: &Operation,
        question: &Attributes,
        ask: Ask,
    ) -> Result<Vec<Attributes>, IpvsError> {
        self.exchange(command, question, ask)
            .map_err(|e| failed(operation.clone(), e))
    }

    fn exchange(
        &mut self,
        command: Cmd,
        question: &Attributes,
        ask: Ask,
    ) -> Result<Vec<Attributes>, Failure> {
        let command = (command.into(), FAMILY_VERSION);
        match self.socket.exchange(self.family, command, question, ask) {
            // ENOENT is a real answer, but also what generic netlink says to the number of a family that is no more:
            // the module was unloaded, or reloaded and has another.
            Err(Failure::Kernel(errno, words)) if errno == Errno::ENOENT as i32 => {
                match self.socket.family(FAMILY_NAME)? {
                    None => Err(Failure::NoFamily),
                    Some(family) if family == self.family => Err(Failure::Kernel(errno, words)),
                    Some(family) => {
                        self.family = family;
                        self.socket.exchange(family, command, question, ask)
                    }
                }
            }
            other => other,
        }
    }
}

fn gone(deleted: Result<(), IpvsError>) -> Result<Changed, IpvsError> {
    match deleted {
        Err(e) if e.is(Errno::ESRCH) || e.is(Errno::ENOENT) => Ok(Changed::Nothing),
        other => other.map(|()| Changed::Deleted),
    }
}

fn written(
    operation: &Operation,
    question: Result<Attributes, EncodeError>,
) -> Result<Attributes, IpvsError> {
    question.map_err(|source| IpvsError::Encode {
        operation: operation.clone(),
        source,
    })
}

fn unreadable(operation: Operation, source: DecodeError) -> IpvsError {
    IpvsError::Decode { operation, source }
}

fn failed(operation: Operation, failure: Failure) -> IpvsError {
    match failure {
        Failure::NoFamily => IpvsError::Unsupported,
        Failure::Kernel(errno, message) => IpvsError::Kernel {
            operation,
            errno,
            message,
        },
        Failure::Socket(source) => IpvsError::Socket { operation, source },
        Failure::Malformed(source) => IpvsError::Decode { operation, source },
        Failure::Interrupted => IpvsError::Unstable {
            operation,
            attempts: 1,
        },
    }
}
