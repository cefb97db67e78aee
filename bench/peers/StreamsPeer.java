import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The contender on Kafka Streams: recency, frequency and monetary value per customer, and a segment by them.
 *
 * <p>One thread, exactly-once v2, a persistent store (RocksDB) with cache and changelog: what its documentation begins
 * with. Arguments: bootstrap servers, application id, prefix of topics, folder for state, and how many bytes are written
 * per event at least; with 0 a record is written where a segment changes, and nothing else.
 */
public final class StreamsPeer {
  private static final String STORE = "rfm";
  private static final List<String> INPUTS = List.of("consents", "purchases", "engagements");
  private static final ObjectMapper JSON = new ObjectMapper();

  private StreamsPeer() {}

  public static void main(String[] arguments) {
    String prefix = arguments[2];
    int bytesPerEvent = Integer.parseInt(arguments[4]);
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    // The benchmark stops the process for a while, and the group must not notice.
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 180_000);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), 180_000);
    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray())
            .withCachingEnabled());
    builder.stream(
            INPUTS.stream().map(topic -> prefix + topic).toList(),
            Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .process(() -> new Segments(bytesPerEvent), STORE)
        .to(
            (key, value, context) -> prefix + (value[0] == '{' ? "segment-changes" : "customer-profiles"),
            Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  /** Keeps (last day, orders, micro-units, interactions, segment) of each customer. */
  private static final class Segments implements Processor<byte[], byte[], byte[], byte[]> {
    private final byte[] padding;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> store;

    Segments(int bytesPerEvent) {
      padding = new byte[bytesPerEvent];
      Arrays.fill(padding, (byte) ' ');
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
      context = given;
      store = given.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      JsonNode event;
      try {
        event = JSON.readTree(record.value());
      } catch (java.io.IOException error) {
        return;
      }
      byte[] before = store.get(record.key());
      ByteBuffer known = before == null ? ByteBuffer.allocate(36) : ByteBuffer.wrap(before);
      long lastDay = known.getLong(0);
      long orders = known.getLong(8);
      long micros = known.getLong(16);
      long interactions = known.getLong(24);
      int segment = known.getInt(32);
      long day = Instant.parse(event.path("occurred_at").asText()).getEpochSecond() / 86_400;
      String kind = event.path("kind").asText();
      if (kind.equals("order")) {
        lastDay = Math.max(lastDay, day);
        orders += 1;
        micros += Math.round(event.path("total").asDouble() * 1e6);
      } else if (!kind.equals("consent")) {
        interactions += 1;
      }
      int current = segmentOf(day - lastDay, orders, micros, interactions);
      ByteBuffer after = ByteBuffer.allocate(36);
      after.putLong(lastDay).putLong(orders).putLong(micros).putLong(interactions).putInt(current);
      store.put(record.key(), after.array());
      if (current != segment) {
        ObjectNode change = JSON.createObjectNode();
        change.put("customer_id", new String(record.key()));
        change.put("previous", segment).put("current", current);
        change.put("as_of", event.path("occurred_at").asText());
        change.put("event_id", event.path("event_id").asText());
        context.forward(record.withValue(change.toString().getBytes()));
      }
      if (padding.length > 0) {
        context.forward(record.withValue(padding));
      }
    }

    /** By digits of recency, frequency and monetary value from 1 to 5, and interactions. */
    private static int segmentOf(long recencyDays, long orders, long micros, long interactions) {
      int recency = recencyDays <= 7 ? 5 : recencyDays <= 30 ? 4 : recencyDays <= 90 ? 3 : recencyDays <= 180 ? 2 : 1;
      int frequency = (int) Math.min(5, orders);
      int monetary = micros >= 500_000_000L ? 5 : micros >= 200_000_000L ? 4 : micros >= 100_000_000L ? 3 : micros > 0 ? 2 : 1;
      int sum = orders == 0 ? 0 : recency + frequency + monetary;
      return sum >= 12 ? 4 : sum >= 8 ? 3 : sum > 0 ? 2 : interactions > 3 ? 1 : 0;
    }
  }
}
