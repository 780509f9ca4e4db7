package org.siglip.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;
import java.util.function.LongFunction;
import java.util.stream.LongStream;
import org.siglip.client.EmbedStream;
import org.siglip.client.Embedding;
import org.siglip.client.Item;
import org.siglip.client.Result;
import org.siglip.client.Siglip;
import org.siglip.client.StreamOptions;
import org.siglip.v1.Dtype;
import org.siglip.v1.EmbeddingOptions;
import org.siglip.v1.ItemError;

/** One case of EmbedStream. */
final class Streams {
  private static final int PROGRESS_RESULTS = 100;

  private final String name;
  private final Embedding[] first;
  private final Set<Long> seen = new HashSet<>();
  private final List<ItemError> errors = new ArrayList<>();
  private final JsonArray undecodable = new JsonArray();
  private Duration pause;
  private int results;
  private int duplicates;

  private Streams(String name, Duration pause, int kinds) {
    this.name = name;
    this.pause = pause;
    this.first = new Embedding[kinds];
  }

  static void run(Siglip siglip, Plan plan, JsonObject one, JsonObject report) throws IOException {
    JsonObject about = one.getAsJsonObject("stream");
    List<LongFunction<Item>> kinds = kinds(plan, about);
    int count = about.get("count").getAsInt();
    Iterator<Item> items =
        LongStream.range(0, count).mapToObj(i -> kinds.get((int) (i % kinds.size())).apply(i)).iterator();
    Duration pause = Duration.ofMillis(about.has("pause_ms") ? about.get("pause_ms").getAsLong() : 0);
    Streams found =
        new Streams(one.get("name").getAsString(), pause, Math.min(count, kinds.size()));
    try (EmbedStream stream = siglip.embedStream(options(about), items)) {
      try {
        stream.forEachRemaining(found::add);
      } finally {
        found.tell(stream, report);
      }
    }
  }

  private static StreamOptions options(JsonObject about) {
    EmbeddingOptions.Builder embedding = EmbeddingOptions.newBuilder();
    if (about.has("dtype")) {
      embedding.setDtype(Dtype.valueOf(about.get("dtype").getAsString()));
    }
    if (about.has("normalize")) {
      embedding.setNormalize(about.get("normalize").getAsBoolean());
    }
    String model = about.has("model") ? about.get("model").getAsString() : "";
    boolean ordered = about.has("ordered") && about.get("ordered").getAsBoolean();
    return new StreamOptions(model, embedding.build(), ordered);
  }

  /** The different items, each made by its place. */
  private static List<LongFunction<Item>> kinds(Plan plan, JsonObject about) throws IOException {
    List<LongFunction<Item>> kinds = new ArrayList<>();
    if (about.has("images")) {
      for (JsonElement image : about.getAsJsonArray("images")) {
        byte[] file = plan.image(image.getAsString());
        kinds.add(place -> Item.image(place, file));
      }
    } else {
      for (JsonElement text : about.getAsJsonArray("texts")) {
        kinds.add(place -> Item.text(place, text.getAsString()));
      }
    }
    return kinds;
  }

  private void add(Result result) {
    results++;
    duplicates += seen.add(result.index()) ? 0 : 1;
    ItemError error = result.embedding().error();
    if (Reports.isUndecodable(error)) {
      undecodable.add(result.index());
    } else if (error != null) {
      errors.add(error);
    }
    if (result.index() < first.length) {
      first[(int) result.index()] = result.embedding();
    }
    if (results % PROGRESS_RESULTS == 0) {
      JsonObject progress = new JsonObject();
      progress.addProperty("case", name);
      progress.addProperty("progress", results);
      Conformance.emit(progress);
      LockSupport.parkNanos(pause.toNanos());
      pause = Duration.ZERO;
    }
  }

  private void tell(EmbedStream stream, JsonObject report) {
    report.addProperty("results", results);
    report.addProperty("duplicates", duplicates);
    report.addProperty("most_unanswered", stream.mostUnanswered());
    report.addProperty("streams", stream.streams());
    if (stream.streams() > 0) {
      report.addProperty("allowed_unanswered", stream.allowedUnanswered());
    }
    Reports.vectors(Arrays.asList(first), report);
    Reports.itemErrors(errors, report);
    Reports.undecodable(undecodable, report);
  }
}
