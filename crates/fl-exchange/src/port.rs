//! The part of a leaf's port that its streams make up, for every body.

/// Streams and clock of an `fl_client::Port` whose fields are `streams`, a [`Streams`](crate::Streams), and `clock_us`,
/// the leaf's own time; its argument is `fl_client::PortError`. A macro, since this crate knows no client.
#[macro_export]
macro_rules! port_of_streams {
    ($error:ty) => {
        type Connection = u32;

        fn accept(&mut self) -> Option<u32> {
            self.streams.accept()
        }

        fn connect(&mut self) -> Result<u32, $error> {
            Ok(self.streams.connect())
        }

        fn read(&mut self, connection: &mut u32, buffer: &mut [u8]) -> Result<usize, $error> {
            let read = self.streams.read(*connection, buffer);
            read.map_err($crate::port_of_streams!(obstacle $error))
        }

        fn write(&mut self, connection: &mut u32, bytes: &[u8]) -> Result<usize, $error> {
            let written = self.streams.write(*connection, bytes);
            written.map_err($crate::port_of_streams!(obstacle $error))
        }

        fn close(&mut self, connection: u32) {
            self.streams.close(connection);
        }

        fn now_us(&mut self) -> u64 {
            self.clock_us
        }
    };
    (obstacle $error:ty) => {
        |unready| match unready {
            $crate::Unready::WouldBlock => <$error>::WouldBlock,
            $crate::Unready::Broken => <$error>::Reset,
        }
    };
}
