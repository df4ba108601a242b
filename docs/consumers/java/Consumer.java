import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Acts on Uptake's commands: a complete consumer in Java.
 *
 * <p>Needs org.apache.kafka:kafka-clients and com.fasterxml.jackson.core:jackson-databind. Reads `commands.product`, does what
 * `product.tutorial.deploy` asks for, each command once, and prints what it did.
 */
public final class Consumer {
    private static final String HANDLES = "product.tutorial.deploy";
    private static final ObjectMapper JSON = new ObjectMapper();

    /** Your part. Pass the id on as idempotency key, so that doing it twice is doing it once. */
    static void act(JsonNode command) {
        ObjectNode line = JSON.createObjectNode();
        line.put("deployed", command.get("subject").asText());
        line.put("because", command.get("why").get("reason").asText());
        line.put("id", command.get("id").asText());
        System.out.println(line);
    }

    /** Whether it was for us and is done now. */
    static boolean handle(JsonNode command, Path done) throws IOException {
        if (!command.get("type").asText().equals(HANDLES)) {
            return false; // someone else's; types are added over time, so skip what you do not know
        }
        if (System.currentTimeMillis() >= command.get("expires_at").asLong()) {
            return false; // too late: nobody acts on it any more
        }
        Path mark = done.resolve(command.get("id").asText()); // in real life a row of your database
        if (!Files.exists(mark)) {
            act(command);
            Files.createFile(mark);
        }
        return true;
    }

    public static void main(String[] arguments) throws IOException {
        Path done = Files.createDirectories(Path.of(setting("DONE", "done")));
        long limit = Long.parseLong(setting("LIMIT", String.valueOf(Long.MAX_VALUE)));
        Properties properties = new Properties();
        properties.put("bootstrap.servers", setting("KAFKA", "localhost:9092"));
        properties.put("group.id", setting("GROUP", "tutorials"));
        // Commands come in transactions: see only those that were committed.
        properties.put("isolation.level", "read_committed");
        properties.put("auto.offset.reset", "earliest");
        // The position is written when the work is done, not before.
        properties.put("enable.auto.commit", "false");
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            consumer.subscribe(List.of(setting("TOPIC_PREFIX", "") + "commands.product"));
            long handled = 0;
            while (handled < limit) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    handled += handle(JSON.readTree(record.value()), done) ? 1 : 0;
                }
                consumer.commitSync();
            }
        }
    }

    private static String setting(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null ? otherwise : value;
    }
}
