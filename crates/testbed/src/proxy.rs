use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::wait::{STEP, wait_for};

/// A line between an agent and a server that can be made to stop in the middle of something.
#[derive(Debug)]
pub struct Proxy {
    /// Where agents connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Bytes towards the server that may still pass.
    room: AtomicI64,
    stop: AtomicBool,
    /// Nothing passes either way, and nobody is told.
    silent: AtomicBool,
}

impl Proxy {
    /// A line to that server.
    pub fn to(server: SocketAddr) -> Self {
        Self::to_any(&[server])
    }

    /// Lines to these servers in turn, as a load balancer gives them; those that are down are left out.
    pub fn to_any(servers: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind((servers[0].ip(), 0)).unwrap();
        let mut servers = servers.to_vec();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            room: AtomicI64::new(i64::MAX),
            stop: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        });
        let of_listener = Arc::clone(&shared);
        std::thread::spawn(move || {
            while !of_listener.stop.load(Ordering::Relaxed) {
                // What is silent lets connections in, as a kernel does, and serves nobody.
                let waiting = if of_listener.silent.load(Ordering::Relaxed) { None } else { listener.accept().ok() };
                let Some((agent, _)) = waiting else {
                    std::thread::sleep(STEP);
                    continue;
                };
                // All may be down: then the agent's connection ends here.
                servers.rotate_left(1);
                if let Some(server) = servers.iter().find_map(|server| TcpStream::connect(server).ok()) {
                    pass(agent.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&of_listener), true);
                    pass(server, agent, Arc::clone(&of_listener), false);
                }
            }
        });
        Self { address, shared }
    }

    /// Lets this many more bytes pass towards the server, and then none.
    pub fn stop_after(&self, bytes: i64) {
        self.shared.room.store(bytes, Ordering::Relaxed);
    }

    /// From now on nothing passes in either direction, as behind a firewall that forgot the connection.
    pub fn silence(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }

    /// Lets everything pass again.
    pub fn open(&self) {
        self.shared.silent.store(false, Ordering::Relaxed);
        self.shared.room.store(i64::MAX, Ordering::Relaxed);
    }

    /// Waits until as many bytes have passed as may.
    pub fn wait_until_stopped(&self) {
        wait_for("the line to be full", || match self.shared.room.load(Ordering::Relaxed) {
            ..=0 => Ok(()),
            room => Err(format!("room for {room} bytes")),
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, shared: Arc<Shared>, limited: bool) {
    from.set_nonblocking(false).unwrap();
    from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while !shared.stop.load(Ordering::Relaxed) {
            let full = limited && shared.room.load(Ordering::Relaxed) <= 0;
            if full || shared.silent.load(Ordering::Relaxed) {
                std::thread::sleep(STEP);
                continue;
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) if to.write_all(&buffer[..read]).is_ok() => {
                    if limited {
                        shared.room.fetch_sub(read as i64, Ordering::Relaxed);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => break,
            }
        }
        // The other direction ends too: half a connection is of no use to anybody.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
