//! A proxy that makes a server further away, one way.
//!
//! Threads and not tasks: a timer of the runtime would round a millisecond up to two.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_service_layer::ports::clock::Clock;

use crate::Outcome;

/// Puts it before a server, and gives the proxy's address. It ends with this process.
pub(crate) fn proxy(server: SocketAddr, delay: Duration) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(server) = TcpStream::connect(server) {
                join(client, server, delay);
            }
        }
    });
    Ok(address)
}

/// Passes on what comes, until either end hangs up.
fn join(mut client: TcpStream, mut server: TcpStream, delay: Duration) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(mut to_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    thread::spawn(move || {
        let _ = std::io::copy(&mut server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    // What arrives while something is held back is held back from its own arrival on.
    let clock = SystemClock::new();
    let (arrived, due) = mpsc::channel::<(Duration, Vec<u8>)>();
    thread::spawn(move || {
        for (at, bytes) in due {
            thread::sleep((at + delay).saturating_sub(clock.monotonic()));
            if to_server.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            if arrived.send((clock.monotonic(), buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
}
