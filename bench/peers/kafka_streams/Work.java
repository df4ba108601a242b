// W with Kafka Streams: Processor API, RocksDB stores with changelogs and cache, two threads.
// Usage: Work ADDRESS TOPIC APPLICATION_ID STATE_DIR ROWS OUT
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.Writer;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

public final class Work {
    static final AtomicLong DONE = new AtomicLong();
    static final AtomicLong WALL = new AtomicLong();
    static final AtomicLong CPU = new AtomicLong();

    static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** Folds one event into three stores: groups, marks of (group, user) for exact distinct users, users. */
    static final class Fold implements Processor<byte[], byte[], Void, Void> {
        private final JsonFactory json = new JsonFactory();
        private KeyValueStore<String, byte[]> groups;
        private KeyValueStore<String, byte[]> marks;
        private KeyValueStore<String, byte[]> users;
        private static final byte[] MARK = {1};

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            groups = context.getStateStore("groups");
            marks = context.getStateStore("marks");
            users = context.getStateStore("users");
        }

        @Override
        public void process(Record<byte[], byte[]> row) {
            if (WALL.get() == 0 && WALL.compareAndSet(0, System.nanoTime())) CPU.set(cpu());
            String feature = null;
            String user = null;
            long occurred = 0;
            long latency = 0;
            try (JsonParser in = json.createParser(row.value())) {
                in.nextToken();
                while (in.nextToken() == JsonToken.FIELD_NAME) {
                    String name = in.currentName();
                    in.nextToken();
                    switch (name) {
                        case "feature": feature = in.getText(); break;
                        case "user": user = in.getText(); break;
                        case "occurred_at": occurred = in.getLongValue(); break;
                        case "latency_ms": latency = in.getLongValue(); break;
                        default: in.skipChildren();
                    }
                }
            } catch (IOException error) {
                throw new IllegalArgumentException(error);
            }
            String group = feature + "|" + occurred / 60_000;
            long added = marks.putIfAbsent(group + "|" + user, MARK) == null ? 1 : 0;
            byte[] before = groups.get(group);
            ByteBuffer old = before == null ? ByteBuffer.allocate(32) : ByteBuffer.wrap(before);
            ByteBuffer now = ByteBuffer.allocate(32);
            now.putLong(old.getLong() + 1).putLong(old.getLong() + added).putLong(old.getLong() + latency);
            now.putLong(Math.max(old.getLong(), latency));
            groups.put(group, now.array());
            byte[] known = users.get(user);
            ByteBuffer seen = known == null ? ByteBuffer.allocate(16) : ByteBuffer.wrap(known);
            ByteBuffer then = ByteBuffer.allocate(16);
            then.putLong(seen.getLong() + 1).putLong(Math.max(seen.getLong(), occurred));
            users.put(user, then.array());
            DONE.incrementAndGet();
        }
    }

    static StoreBuilder<KeyValueStore<String, byte[]>> store(String name) {
        return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.String(), Serdes.ByteArray())
            .withCachingEnabled();
    }

    public static void main(String[] args) throws Exception {
        long rows = Long.parseLong(args[4]);
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[2]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        settings.put(StreamsConfig.producerPrefix("linger.ms"), 100);
        settings.put(StreamsConfig.producerPrefix("compression.type"), "lz4");

        Topology topology = new Topology();
        topology.addSource("in", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), args[1]);
        topology.addProcessor("fold", Fold::new, "in");
        for (String name : new String[] {"groups", "marks", "users"}) topology.addStateStore(store(name), "fold");

        KafkaStreams streams = new KafkaStreams(topology, settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
        while (DONE.get() < rows) Thread.sleep(2);
        double seconds = (System.nanoTime() - WALL.get()) / 1e9;
        double used = (cpu() - CPU.get()) / 1e9;

        Path partial = Path.of(args[5] + ".partial");
        try (Writer out = Files.newBufferedWriter(partial)) {
            out.write("{\"rows\":" + DONE.get() + ",\"seconds\":" + seconds + ",\"cpu_s\":" + used + ",\"groups\":[");
            list(streams, "groups", 4, out);
            out.write("],\"users\":[");
            list(streams, "users", 2, out);
            out.write("]}");
        }
        Files.move(partial, Path.of(args[5]), StandardCopyOption.ATOMIC_MOVE);
        Runtime.getRuntime().halt(0);
    }

    static void list(KafkaStreams streams, String name, int longs, Writer out) throws IOException {
        String between = "";
        try (KeyValueIterator<String, byte[]> all =
                streams.store(StoreQueryParameters.fromNameAndType(name, QueryableStoreTypes.<String, byte[]>keyValueStore())).all()) {
            while (all.hasNext()) {
                KeyValue<String, byte[]> entry = all.next();
                int bar = entry.key.indexOf('|');
                out.write(between + "[\"" + (bar < 0 ? entry.key : entry.key.substring(0, bar) + "\"," + entry.key.substring(bar + 1)));
                out.write(bar < 0 ? "\"" : "");
                ByteBuffer value = ByteBuffer.wrap(entry.value);
                for (int i = 0; i < longs; i++) out.write("," + value.getLong());
                out.write("]");
                between = ",\n";
            }
        }
    }
}
