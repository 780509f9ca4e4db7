package org.siglip.example;

import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.stream.IntStream;
import org.siglip.client.EmbedStream;
import org.siglip.client.Embedding;
import org.siglip.client.Failure;
import org.siglip.client.Item;
import org.siglip.client.Result;
import org.siglip.client.Settings;
import org.siglip.client.Siglip;
import org.siglip.client.StreamOptions;
import org.siglip.v1.ClassificationResult;
import org.siglip.v1.ClassifyRequest;
import org.siglip.v1.ClassifyResponse;
import org.siglip.v1.Dtype;
import org.siglip.v1.EmbedImagesRequest;
import org.siglip.v1.EmbedTextsRequest;
import org.siglip.v1.EmbeddingOptions;
import org.siglip.v1.GetModelRequest;
import org.siglip.v1.GetModelResponse;
import com.google.protobuf.ByteString;

/**
 * Makes each kind of call once: GetModel, EmbedTexts, one that fails, a stream of 1,000 texts, and, of the
 * pictures that are given, EmbedImages and Classify.
 */
public final class Example {
  private static final int STREAM_ITEMS = 1000;

  private Example() {}

  public static void main(String[] arguments) throws IOException {
    List<String> given = new ArrayList<>(Arrays.asList(arguments));
    try (Siglip siglip = Siglip.connect(settings(given))) {
      describe(siglip);
      embedTexts(siglip);
      refused(siglip);
      stream(siglip);
      look(siglip, given);
    } catch (StatusRuntimeException failed) {
      Failure failure = Failure.of(failed);
      System.err.println(failure.code() + ": " + failure.message() + " " + failure.reason());
      System.exit(1);
    }
  }

  /** ADDRESS, and --tls or --ca-file FILE before it; a token comes from SIGLIP_TOKEN. */
  private static Settings settings(List<String> given) {
    boolean tls = given.remove("--tls");
    int place = given.indexOf("--ca-file");
    Path caFile = null;
    if (place >= 0) {
      given.remove(place);
      caFile = Path.of(given.remove(place));
    }
    Settings settings = new Settings(given.isEmpty() ? "127.0.0.1:50051" : given.remove(0));
    settings = tls ? settings.withTls() : settings;
    return settings.withCaFile(caFile).withToken(System.getenv("SIGLIP_TOKEN"));
  }

  private static void describe(Siglip siglip) {
    GetModelResponse model = siglip.model(stub -> stub.getModel(GetModelRequest.getDefaultInstance()));
    System.out.printf("model %s, vectors of %d numbers%n", model.getName(), model.getEmbeddingDim());
  }

  private static void embedTexts(Siglip siglip) {
    EmbedTextsRequest request =
        EmbedTextsRequest.newBuilder()
            .addTexts("a red circle")
            .addTexts("a blue square")
            .setOptions(EmbeddingOptions.newBuilder().setDtype(Dtype.DTYPE_F16))
            .build();
    var reply = siglip.embedding(stub -> stub.embedTexts(request));
    for (Embedding embedding : Embedding.of(reply.getResultsList())) {
      if (embedding.error() == null) {
        System.out.printf("text: %.3f ... (%s)%n", embedding.vector()[0], embedding.dtype());
      } else {
        System.out.println(embedding.error().getMessage());
      }
    }
  }

  /** What a call that breaks a rule says. */
  private static void refused(Siglip siglip) {
    try {
      siglip.embedding(stub -> stub.embedTexts(EmbedTextsRequest.getDefaultInstance()));
    } catch (StatusRuntimeException failed) {
      Failure failure = Failure.of(failed);
      System.out.printf("no texts: %s, reason %s%n", failure.code(), failure.reason());
      failure.violations().forEach(v -> System.out.println("  " + v.getField() + ": " + v.getDescription()));
    }
  }

  private static void stream(Siglip siglip) {
    Iterator<Item> items =
        IntStream.range(0, STREAM_ITEMS).mapToObj(i -> Item.text(i, i + " red circles")).iterator();
    int good = 0;
    try (EmbedStream results = siglip.embedStream(new StreamOptions(), items)) {
      while (results.hasNext()) {
        Result result = results.next();
        if (result.embedding().error() == null) {
          good++;
        } else {
          System.out.println(result.key() + ": " + result.embedding().error().getMessage());
        }
      }
      System.out.printf(
          "stream: %d of %d embedded, at most %d of %d allowed unanswered%n",
          good, STREAM_ITEMS, results.mostUnanswered(), results.allowedUnanswered());
    }
  }

  private static void look(Siglip siglip, List<String> files) throws IOException {
    if (files.isEmpty()) {
      return;
    }
    List<ByteString> images = new ArrayList<>();
    for (String file : files) {
      images.add(ByteString.copyFrom(Files.readAllBytes(Path.of(file))));
    }
    EmbedImagesRequest request = EmbedImagesRequest.newBuilder().addAllImages(images).build();
    List<Embedding> found =
        Embedding.of(siglip.embedding(stub -> stub.embedImages(request)).getResultsList());
    for (int i = 0; i < files.size(); i++) {
      Embedding embedding = found.get(i);
      System.out.println(files.get(i) + ": "
          + (embedding.error() == null ? embedding.vector().length + " numbers" : embedding.error().getMessage()));
    }
    classify(siglip, files, images);
  }

  private static void classify(Siglip siglip, List<String> files, List<ByteString> images) {
    ClassifyRequest request =
        ClassifyRequest.newBuilder()
            .addAllImages(images)
            .addAllLabels(List.of("a red circle", "a blue square", "two yellow stars"))
            .setTopK(1)
            .build();
    ClassifyResponse reply = siglip.zeroShot(stub -> stub.classify(request));
    for (int i = 0; i < files.size(); i++) {
      ClassificationResult result = reply.getResults(i);
      String file = files.get(i);
      if (result.hasError()) {
        System.out.println(file + ": " + result.getError().getMessage());
      }
      result.getScores().getScoresList()
          .forEach(s -> System.out.printf("%s: %.3f %s%n", file, s.getProbability(), s.getLabel()));
    }
  }
}
