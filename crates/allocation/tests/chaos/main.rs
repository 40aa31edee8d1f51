//! Kill tests: the program dies at every failpoint, again and again, and broker and database die too, while commands come in by HTTP and as messages, some
//! of them twice. Nothing is lost, nothing acts twice, no durable consumer misses an event, and the books balance. And primaries are lost, and followed by
//! their standbys. And copies are restarted in turns.
//!
//! `CHAOS=20` is the whole of it; without it, a twentieth is done.

mod commands;
mod failover;
mod rolling;
mod tally;
mod world;

use allocation_service_layer::failpoints::Failpoint;
use allocation_testing::brokers::{Nats, Rabbit, RedisStreams};
use tally::Tally;
use world::World;

/// What befalls a world.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// The program dies when it comes to this step for the nth time.
    At(Failpoint, usize),
    /// The broker is killed.
    Broker,
    /// The database is killed.
    Database,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Redis,
    Nats,
    Rabbit,
}

const WORLDS: [(On, Over); 6] = [
    (On::Sqlite, Over::Redis),
    (On::Postgres, Over::Nats),
    (On::Sqlite, Over::Rabbit),
    (On::Postgres, Over::Redis),
    (On::Sqlite, Over::Nats),
    (On::Postgres, Over::Rabbit),
];

/// Whether a program in this world ever comes to this step.
fn is_passed(point: Failpoint, (on, over): (On, Over)) -> bool {
    match point {
        // On SQLite an event has its position when it is stored.
        Failpoint::Numbering | Failpoint::Numbered => on == On::Postgres,
        // The NATS of the tests is soon full, and cuts tell of very many lines.
        Failpoint::CutStepped => over != Over::Nats,
        _ => true,
    }
}

/// What befalls each world, so that the program dies so many times at each step, and every kind of server as often.
fn blows(kills: usize) -> [Vec<Blow>; WORLDS.len()] {
    let mut blows = [const { Vec::new() }; WORLDS.len()];
    for (first, &point) in Failpoint::ALL.iter().enumerate() {
        let worlds: Vec<usize> = (0..WORLDS.len()).filter(|&world| is_passed(point, WORLDS[world])).collect();
        for n in 0..kills {
            blows[worlds[(first + n) % worlds.len()]].push(Blow::At(point, 1 + n % 3));
        }
    }
    for (blows, (on, _)) in blows.iter_mut().zip(WORLDS) {
        // Two worlds have the same kind of broker, and three a PostgreSQL.
        let mut servers = vec![Blow::Broker; kills.div_ceil(2)];
        if on == On::Postgres {
            servers.extend(vec![Blow::Database; kills.div_ceil(3)]);
        }
        let apart = blows.len().div_ceil(servers.len());
        for (n, blow) in servers.into_iter().enumerate() {
            blows.insert((n * (apart + 1)).min(blows.len()), blow);
        }
    }
    blows
}

/// Goes through all that befalls a world, and says what was done.
async fn go_through(on: On, over: Over, blows: Vec<Blow>, commands: usize) -> Tally {
    let broker: Box<dyn allocation_testing::brokers::Broker> = match over {
        Over::Redis => Box::new(RedisStreams::start().await),
        Over::Nats => Box::new(Nats::start().await),
        Over::Rabbit => Box::new(Rabbit::start().await),
    };
    let mut world = World::new(on, broker).await;
    let all = blows.len();
    for (nth, blow) in blows.into_iter().enumerate() {
        if nth > 0 && nth % 25 == 0 {
            println!("{on:?} and {over:?}: {nth} of {all} lives are over");
        }
        match blow {
            Blow::At(Failpoint::CutStepped, _) => world.die_in_a_cut().await,
            Blow::At(point @ (Failpoint::LetterRetrying | Failpoint::LetterUsed | Failpoint::LetterDropped), _) => {
                world.die_at_a_letter(point).await;
            }
            Blow::At(point, nth) => world.die_at(point, nth).await,
            Blow::Broker => world.lose_broker().await,
            Blow::Database => world.lose_database().await,
        }
    }
    world.come_to_an_end(commands).await
}

/// How much is done: 20 is all.
fn chaos() -> usize {
    std::env::var("CHAOS").map_or(1, |chaos| chaos.parse().expect("CHAOS is a number"))
}

#[test]
fn whatever_dies_wherever_it_dies_nothing_is_lost_and_nothing_acts_twice() {
    let chaos = chaos();
    let (commands, kills) = (5_000 * chaos, (50 * chaos / 20).max(2));
    // A thread each: servers are killed by calls that block.
    let tally = std::thread::scope(|scope| {
        let worlds = WORLDS.iter().zip(blows(kills)).map(|(&(on, over), blows)| {
            let world = async move || go_through(on, over, blows, commands.div_ceil(WORLDS.len())).await;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(world())
            })
        });
        let worlds: Vec<_> = worlds.collect();
        worlds.into_iter().map(|world| world.join().unwrap()).reduce(Tally::and).unwrap()
    });
    println!("{tally}");
    for point in Failpoint::ALL {
        assert!(tally.killed_at(point.name()) >= kills, "{} was not come to often enough", point.name());
    }
    for server in ["redis-stream", "nats", "rabbitmq", "PostgreSQL"] {
        assert!(tally.killed_at(server) >= kills, "{server} was not killed often enough");
    }
    assert!(tally.commands() >= commands);
    assert!(tally.twice() * 5 >= tally.commands(), "a fifth is sent twice");
    assert!(tally.redelivered() * 10 >= tally.commands(), "a tenth is delivered again");
}
